"""The command line. Every command is a thin layer: what it does lies in the package below it.

Errors are one clear line on standard error and a numbered exit code (see `errors.py`), never a traceback.
Progress and tables go to standard error, results asked for with --json to standard output.
"""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .device.split_command import join_halves, split_learning
from .errors import MissingExtra, SplitpointError, UsageError
from .models.pool_command import profile_pool, train_pool
from .sim.policy_command import policy_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="splitpoint",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Edge-server split inference with one vision transformer, in simulation and on real boards.",
)
app.add_typer(policy_app)


class EngineName(StrEnum):
    live = "live"
    profile = "profile"
    tensor = "tensor"


class HeadName(StrEnum):
    auto = "auto"
    torch = "torch"
    onnx = "onnx"


_DATA_HELP = "Parquet file, image folder or named set; a built-in model's own set by itself."


class SplitName(StrEnum):
    calibration = "calibration"
    evaluation = "evaluation"


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A built-in scenario or a YAML file.")] = "quickstart",
    engine: Annotated[
        EngineName, typer.Option(help="Real processes, looked-up answers, or the network.")
    ] = EngineName.live,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME ...", help="Only these policies; also replay:requests.parquet[:POLICY]."),
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests per policy, over all devices.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Root of all randomness.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for summary.json, requests.parquet and report.html.")
    ] = None,
    compare: Annotated[
        EngineName | None,
        typer.Option(help="Run this virtual engine first, replay its Decisions, and compare."),
    ] = None,
    server: Annotated[str | None, typer.Option(help="Live: a server that runs already, HOST:PORT.")] = None,
    head: Annotated[
        HeadName, typer.Option(help="Live: what the devices run their blocks with.")
    ] = HeadName.auto,
    json_: Json = False,
    list_: Annotated[bool, typer.Option("--list", help="List the built-in scenarios.")] = False,
    schema: Annotated[bool, typer.Option(help="Print the JSON Schema of scenario files.")] = False,
) -> None:
    """Run a scenario: all its policies on the same arrivals, inputs and channel; then table and report."""
    from .sim.command import RunOptions, print_scenarios, run_command
    from .sim.scenario import scenario_schema

    if list_:
        print_scenarios()
        return
    if schema:
        print(json.dumps(scenario_schema(), indent=2))
        return
    run_command(
        RunOptions(
            scenario,
            engine.value,
            tuple(policy or ()),
            requests,
            seed,
            out,
            compare.value if compare else None,
            server,
            head.value,
            json_,
        )
    )


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="Which network: clutter or cifar10.")] = "clutter",
    model: Annotated[
        str, typer.Option(help="An own model to start from instead: a timm, Hugging Face or splitpoint file.")
    ] = "",
    data: Annotated[
        str,
        typer.Option(help="With --model: a named set (cifar100, mnist, ...), downloaded into --data-dir."),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for weights, checkpoint and logs, or a file X.safetensors; runs/train-NAME by itself."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where named sets lie; with --model the image folder or parquet file itself."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    epochs: Annotated[int | None, typer.Option(min=2, help="Shorter or longer than the default.")] = None,
    regime: Annotated[
        str, typer.Option(help="Which part learns when: mixed, joint, or disjoint on a frozen backbone.")
    ] = "mixed",
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a network; a run that was killed goes on where it was when started again.

    With --split-learning the tail is trained on a server; `splitpoint train --split-learning --help`.
    """
    _needs_torch("training")
    from .models.store import load_network
    from .models.train import network_config, own_config
    from .models.train import train as train_network

    options: dict[str, Any] = {"seed": seed, "epochs": epochs, "regime": regime, "accelerator": accelerator}
    if data and not model:
        raise UsageError("--data is what an own model is trained on: give --model too")
    if not model:
        config = _checked(network_config, name=name, **options)
        print(train_network(config, out or Path("runs") / f"train-{name}", data_dir))
        return
    own = Path(model).stem
    if data:
        from .models.download import fetch

        data_dir = fetch(data, data_dir or Path("runs") / "data")
        own = f"{own}-{data}"
    config = _checked(own_config, model=model, base=load_network(model)[1], name=own, **options)
    print(train_network(config, out or Path("runs") / f"train-{own}", data_dir, model))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    data: Annotated[str, typer.Option(help=_DATA_HELP)] = "",
    split: Annotated[SplitName, typer.Option(help="Of a named set.")] = SplitName.evaluation,
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    json_: Json = False,
) -> None:
    """Accuracy, multiply-accumulates and time at every exit."""
    _needs_torch("evaluating a network")
    from .models.data import load_data
    from .models.evaluate import evaluate as evaluate_network
    from .models.store import load_network

    network, card = load_network(model)
    data = data or _own_set(model)
    result = evaluate_network(network, card, load_data(data, split.value, card=card, data_dir=data_dir))
    if json_:
        print(json.dumps(result))
        return
    _table(
        f"{card.name} on {data}: {result['samples']} samples",
        ["exit after block", "accuracy", "mean margin", "M MACs", "ms at batch 1"],
        [
            [
                str(e["after_block"]),
                f"{e['accuracy']:.4f}",
                f"{e['margin_mean']:.3f}",
                f"{e['macs'] / 1e6:.1f}",
                f"{e['time_s'] * 1e3:.2f}",
            ]
            for e in result["exits"]
        ],
    )


@app.command()
def profile(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    split: Annotated[SplitName, typer.Option(help="Which profile, for a named set.")] = SplitName.calibration,
    data: Annotated[str, typer.Option(help=_DATA_HELP)] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default: beside the model, NAME.SPLIT.npz.")] = None,
    keep: Annotated[list[float] | None, typer.Option(help="Grid of keep; repeat for more.")] = None,
    dims: Annotated[list[int] | None, typer.Option(help="Grid of dims; repeat for more.")] = None,
    bits: Annotated[list[int] | None, typer.Option(help="Grid of bits; repeat for more.")] = None,
    coder: Annotated[str, typer.Option(help="packed or ans.")] = "packed",
    samples: Annotated[int | None, typer.Option(min=1, help="The first so many; default all.")] = None,
) -> None:
    """Measure a Profile: answers, margins and bytes of every sample on a grid of cuts and compressions."""
    _needs_torch("measuring a profile")
    from .models.measure import measure_file

    path = measure_file(
        model,
        split.value,
        data or _own_set(model),
        data_dir=data_dir,
        out=out,
        keeps=keep,
        dims=dims,
        bits=bits,
        coder=coder,
        samples=samples,
    )
    print(path)


@app.command()
def tables(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    data: Annotated[str, typer.Option(help="Named set (its training split), parquet or folder.")] = "clutter",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples to fit the tables to.")] = 96,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Another file; by default the model's own.")] = None,
) -> None:
    """Fit the entropy coder's tables on training data and put them into a model's file; its id stays."""
    _needs_torch("fitting code tables")
    from .models.code_tables import fit_model_tables

    print(fit_model_tables(model, data, data_dir=data_dir, samples=samples, seed=seed, out=out))


@app.command("train-jscc")
def train_jscc(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")] = "clutter",
    data: Annotated[str, typer.Option(help="Named set (its training split), parquet or folder.")] = "clutter",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    cut: Annotated[list[int] | None, typer.Option(help="Cuts that get a code; repeat for more.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps for each cut.")] = 1200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    accelerator: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints.")] = Path("runs/train-jscc"),
) -> None:
    """Train joint source-channel codes, which send tokens as noisy symbols; they go beside the model's file.

    A run that was killed goes on where it was when started again.
    """
    _needs_torch("training codes")
    from .models.jscc_command import train_codes
    from .models.jscc_train import JsccConfig

    config = _checked(JsccConfig, cuts=tuple(cut or (1,)), steps=steps, seed=seed, accelerator=accelerator)
    print(train_codes(model, config, out, data=data, data_dir=data_dir))


@app.command("train-gates")
def train_gates(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    out: Annotated[Path, typer.Option(help="The file of the network with gates, NAME.safetensors.")],
    data: Annotated[str, typer.Option(help="Named set (its training split), parquet or folder.")] = "clutter",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    steps: Annotated[
        int,
        typer.Option(min=0, help="Steps that network and gates learn together; 0: gates are fitted only."),
    ] = 0,
    batch: Annotated[int, typer.Option(min=2)] = 64,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    accelerator: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Give a network a budget token and gates: it drops patches on the device, one network for every keep.

    A run that was killed goes on where it was when started again.
    """
    _needs_torch("training gates")
    from .models.gate_command import train_gates as train
    from .models.gate_train import GateConfig

    config = _checked(GateConfig, seed=seed, steps=steps, batch=batch, accelerator=accelerator)
    print(train(model, config, out, data=data, data_dir=data_dir, threads=threads))


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    out: Annotated[Path, typer.Option(help="Folder for the ONNX files, the card and the codec's arrays.")],
) -> None:
    """Export a network for boards: ONNX Runtime needs no torch."""
    _needs_torch("exporting a network")
    from .device.export import export as export_network

    export_network(model, out)
    print(out)


@app.command()
def serve(
    model: Annotated[
        str, typer.Option(help="A named model or its safetensors; clutter where nothing else is served.")
    ] = "",
    learner: Annotated[
        list[str] | None, typer.Option(help="Run a learner's gates for quorums; repeat for more.")
    ] = None,
    quorum: Annotated[
        Path | None, typer.Option(help="Answer by learners that vote, here and elsewhere: a YAML file.")
    ] = None,
    gate_log: Annotated[
        Path | None, typer.Option(help="JSON lines of gates run and questions cancelled, for measurements.")
    ] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:50051",
    threads: Annotated[int, typer.Option(min=1, help="torch's threads.")] = 1,
    max_batch: Annotated[int, typer.Option(min=1)] = 16,
    max_pending: Annotated[int, typer.Option(min=1, help="Requests beyond this are refused.")] = 256,
    pace_macs_per_s: Annotated[float | None, typer.Option(help="Simulate a server of this speed.")] = None,
    pace_base_s: Annotated[float, typer.Option(help="With it: seconds for each segment of a batch.")] = 0.0,
    certificate: Annotated[Path | None, typer.Option(help="TLS: the server's certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="TLS: its key, PEM.")] = None,
    client_root: Annotated[Path | None, typer.Option(help="TLS: who must have signed the clients.")] = None,
    train_: Annotated[
        bool, typer.Option("--train", help="Take part in split learning: answer TrainStep.")
    ] = False,
    train_dir: Annotated[
        Path, typer.Option(help="With it: where checkpoints and trained tails are put.")
    ] = Path("runs/split-learning-server"),
) -> None:
    """Serve the network's tail over gRPC, or learners' gates, or the quorum that asks them; until SIGTERM."""
    from .server.config import ServerConfig
    from .server.quorum_config import load_quorum
    from .server.serve import main as serve_main

    host, port = _host_port(listen)
    pace = None if pace_macs_per_s is None else {"base_s": pace_base_s, "macs_per_s": pace_macs_per_s}
    serve_main(
        _checked(
            ServerConfig,
            model=model,
            learners=tuple(learner or ()),
            quorum=None if quorum is None else load_quorum(quorum),
            gate_log=gate_log,
            host=host,
            port=port,
            threads=threads,
            max_batch=max_batch,
            max_pending=max_pending,
            pace=pace,
            certificate=certificate,
            key=key,
            client_root=client_root,
            training={"folder": train_dir} if train_ else None,
        )
    )


@app.command("channel")
def channel_command(
    config: Annotated[Path, typer.Option(help="ChannelConfig as YAML or JSON.")],
    upstream: Annotated[str, typer.Option(help="The server, HOST:PORT.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:50052",
    seed: Annotated[int, typer.Option(min=0, help="Root of fading, loss and outages.")] = 0,
) -> None:
    """Emulate the channel: relay real traffic with the delay, loss and outages of a seeded link."""
    from .channel.emulator import main as channel_main

    host, port = _host_port(listen)
    channel_main(config, upstream, host=host, port=port, seed=seed)


@app.command()
def device(
    server: Annotated[str, typer.Option(help="The server, or the emulator before it, HOST:PORT.")],
    images: Annotated[Path, typer.Option(help="A folder of images.")],
    model: Annotated[
        str, typer.Option(help="An exported folder, a named model or its safetensors.")
    ] = "clutter",
    deadline_s: Annotated[float, typer.Option(min=0.0, help="Relative, for each image.")] = 0.5,
    index: Annotated[int, typer.Option(min=0, help="This device's number on the emulator.")] = 0,
    root: Annotated[Path | None, typer.Option(help="TLS: who signed the server, PEM.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS: this client's certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="TLS: its key, PEM.")] = None,
    server_name: Annotated[
        str | None, typer.Option(help="TLS: the name in the server's certificate.")
    ] = None,
    json_: Json = False,
) -> None:
    """Answer a folder of images: here where sure, else by the server; locally where it cannot be reached."""
    from .device.command import run_images
    from .protos.client import Tls

    given = (root, certificate, key, server_name)
    tls = Tls(*given) if any(value is not None for value in given) else None
    run_images(model, server, images, deadline_s=deadline_s, index=index, tls=tls, as_json=json_)


@app.command("device-worker", hidden=True)
def device_worker(
    scenario: Annotated[Path, typer.Option()],
    inputs: Annotated[Path, typer.Option()],
    index: Annotated[int, typer.Option(min=0)],
    server: Annotated[str, typer.Option()],
    head: Annotated[HeadName, typer.Option()] = HeadName.auto,
) -> None:
    """One device process of a live run."""
    from .sim.worker import work

    work(scenario, inputs, index, server, head.value)


app.command("join-halves")(join_halves)
app.command("profile-pool")(profile_pool)
app.command("train-pool")(train_pool)
app.command("split-learning", hidden=True)(split_learning)


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"'{text}' is not HOST:PORT")
    return host, int(port)


def _checked(kind: Any, **values: Any) -> Any:
    """A configuration from options; what does not validate is the user's mistake, in one line."""
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = "-".join(str(part) for part in problem["loc"])
        raise UsageError(f"--{place}: {problem['msg'].removeprefix('Value error, ')}") from None


def _own_set(model: str) -> str:
    """The named set that a built-in model was trained on."""
    from .models.data import NAMED

    name = model.split("-")[0]
    if name not in NAMED:
        raise UsageError(f"--data: what to run {model} on; a parquet file, an image folder or a named set")
    return name


def _needs_torch(what: str) -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MissingExtra(what, "sim")


def _table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _spread(arguments: list[str]) -> list[str]:
    """`--policy a b` as `--policy a --policy b`: click takes one value an option."""
    spread: list[str] = []
    taking = False
    for argument in arguments:
        if taking and not argument.startswith("-") and spread[-1] != "--policy":
            spread.append("--policy")
        taking = argument == "--policy" or (taking and not argument.startswith("-"))
        spread.append(argument)
    return spread


def _split_learning(arguments: list[str]) -> list[str]:
    """`train ... --split-learning` as the command of that name: it shares no option with a training in one place."""
    if arguments[:1] != ["train"] or "--split-learning" not in arguments:
        return arguments
    return ["split-learning", *(argument for argument in arguments[1:] if argument != "--split-learning")]


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command `splitpoint`."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(_split_learning(_spread(given)))
    except SplitpointError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
