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
from typing import Annotated

import typer

from . import __version__
from .device.split_command import join_halves, split_learning
from .errors import SplitpointError, UsageError
from .models.measure_command import evaluate, profile, tables
from .models.pool_command import profile_pool, train_pool
from .models.train_command import train, train_codec, train_gates, train_jscc
from .options import ImageFormatOption, Json, checked, host_port, need_sim
from .sim.policy_command import policy_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="splitpoint",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(policy_app)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Edge-server split inference with one vision transformer, in simulation and on real boards."""


class EngineName(StrEnum):
    live = "live"
    profile = "profile"
    tensor = "tensor"


class DevicePolicy(StrEnum):
    auto = "auto"
    remote = "remote"


class HeadName(StrEnum):
    auto = "auto"
    torch = "torch"
    onnx = "onnx"


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
    from .sim.scenario import built_in_scenarios, scenario_schema

    if list_:
        for name, description in built_in_scenarios().items():
            print(f"{name:12} {description}")
        return
    if schema:
        print(json.dumps(scenario_schema(), indent=2))
        return
    need_sim("running a scenario", "filelock", "simpy")
    from .sim.command import RunOptions, run_command

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
def export(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    out: Annotated[Path, typer.Option(help="Folder for the ONNX files, the card and the codec's arrays.")],
) -> None:
    """Export a network for boards: ONNX Runtime needs no torch."""
    need_sim("exporting a network")
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
    policy: Annotated[
        str | None,
        typer.Option(
            help="Decide for boards that ask: a kind, a name in the scenario, a trained one's file."
        ),
    ] = None,
    policy_scenario: Annotated[
        str | None, typer.Option(help="With it: the scenario whose devices and budgets it reckons with.")
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

    host, port = host_port(listen)
    if pace_macs_per_s is None and pace_base_s:
        raise UsageError("--pace-base-s adds to what --pace-macs-per-s says: give both")
    pace = None if pace_macs_per_s is None else {"base_s": pace_base_s, "macs_per_s": pace_macs_per_s}
    config: ServerConfig = checked(
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
    policies = None
    if policy is not None:
        from .sim.serve_policies import policy_source

        policies = policy_source(policy, policy_scenario, config.devices_network)
    elif policy_scenario is not None:
        raise UsageError("--policy-scenario says what --policy reckons with: give both")
    serve_main(config, policies=policies)


@app.command("channel")
def channel_command(
    config: Annotated[Path, typer.Option(help="ChannelConfig as YAML or JSON.")],
    upstream: Annotated[str, typer.Option(help="The server, HOST:PORT.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:50052",
    seed: Annotated[int, typer.Option(min=0, help="Root of fading, loss and outages.")] = 0,
) -> None:
    """Emulate the channel: relay real traffic with the delay, loss and outages of a seeded link."""
    from .channel.emulator_process import main as channel_main

    host, port = host_port(listen)
    host_port(upstream)
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
    policy: Annotated[
        DevicePolicy, typer.Option(help="Decide here, or let the server (serve --policy) decide.")
    ] = DevicePolicy.auto,
    image_format: ImageFormatOption = "png",
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

    host_port(server)  # without a port it would be sought at 443
    given = (root, certificate, key, server_name)
    tls = Tls(*given) if any(value is not None for value in given) else None
    run_images(
        model,
        server,
        images,
        deadline_s=deadline_s,
        index=index,
        tls=tls,
        remote=policy is DevicePolicy.remote,
        image_format=image_format,
        as_json=json_,
    )


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


app.command()(evaluate)
app.command("join-halves")(join_halves)
app.command()(profile)
app.command("profile-pool")(profile_pool)
app.command()(tables)
app.command()(train)
app.command("train-codec")(train_codec)
app.command("train-gates")(train_gates)
app.command("train-jscc")(train_jscc)
app.command("train-pool")(train_pool)
app.command("split-learning", hidden=True)(split_learning)


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
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # What no command foresees: a disk that is full, say.
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
