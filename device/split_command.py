"""`splitpoint train NAME --split-learning` and `splitpoint join-halves`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import MissingExtra, UsageError
from ..json_text import json_text
from ..options import Json, checked, host_port

if TYPE_CHECKING:
    from ..models.training_data import TrainingData
    from ..protos.client import Tls
    from .split_run import SplitRunConfig

__all__ = ["join_halves", "split_learning"]


def split_learning(
    model: Annotated[str, typer.Argument(metavar="NAME", help="A named model or its safetensors.")],
    server: Annotated[str, typer.Option(help="The server, or the emulator before it, HOST:PORT.")],
    data: Annotated[
        str | None, typer.Option(help="Named set, image folder or parquet; by itself the model's name.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoint, metrics and weights; runs/split-NAME by itself."),
    ] = None,
    cut: Annotated[int, typer.Option(min=0, help="Blocks on the device; 0 is half of them.")] = 0,
    method: Annotated[
        str, typer.Option(help="adc, none, top-k, random-top-k, c3-sl or bottlenet++.")
    ] = "adc",
    rate: Annotated[float, typer.Option(help="Fraction of the activation's values, in (0, 1].")] = 0.1,
    rho_batch: Annotated[
        float,
        typer.Option(help="ADC's clusters over samples, in RATE..1; 1 drops tokens only, 0: sqrt(RATE)."),
    ] = 0.0,
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    batch: Annotated[int, typer.Option(min=2)] = 64,
    learning_rate: Annotated[float, typer.Option(help="The schedule's peak, on both sides.")] = 5e-4,
    weight_decay: Annotated[float, typer.Option(min=0.0)] = 0.05,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    send_labels: Annotated[
        bool,
        typer.Option("--send-labels", help="Let labels leave: the loss is the server's, one round trip."),
    ] = False,
    images: Annotated[int, typer.Option(min=0, help="Training images of an epoch; 0 is all.")] = 0,
    held_out: Annotated[
        int, typer.Option(min=0, help="Images of its evaluation, uncompressed; 0 is none.")
    ] = 1000,
    step_timeout_s: Annotated[float, typer.Option(help="One try of one step.")] = 30.0,
    patience_s: Annotated[float, typer.Option(help="Longest time that the link may be down.")] = 120.0,
    index: Annotated[int, typer.Option(min=0, help="This device's number on the emulator.")] = 0,
    root: Annotated[Path | None, typer.Option(help="TLS: who signed the server, PEM.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS: this client's certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="TLS: its key, PEM.")] = None,
    server_name: Annotated[
        str | None, typer.Option(help="TLS: the name in the server's certificate.")
    ] = None,
    json_: Json = False,
) -> None:
    """Train the head here and the tail on a server (`serve --train`), over gRPC, compressed both ways.

    Labels stay here unless --send-labels. A run that was killed goes on from its last epoch when started again;
    `join-halves` makes one model of the two files.
    """
    config = _config(
        model=model,
        cut=cut,
        method=method,
        rate=rate,
        rho_batch=rho_batch,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        send_labels=send_labels,
        images=images,
        held_out=held_out,
        step_timeout_s=step_timeout_s,
        patience_s=patience_s,
    )
    from ..protos.client import Tls

    host_port(server)
    given = (root, certificate, key, server_name)
    tls = Tls(*given) if any(value is not None for value in given) else None
    folder = out or Path("runs") / f"split-{Path(model).stem}"
    source = _data(config, data or Path(model).stem, data_dir)
    result = asyncio.run(_over_grpc(config, source, folder, server, index, tls))
    if json_:
        print(json_text(result))
        return
    print(f"head: {result['head']}")
    print(f"tail: {result['session']}/tail.safetensors in the server's --train-dir")


def join_halves(
    model: Annotated[str, typer.Argument(help="The model that was trained, by name or path.")],
    head: Annotated[Path, typer.Argument(help="head.safetensors, from the device.")],
    tail: Annotated[Path, typer.Argument(help="tail.safetensors, from the server.")],
    out: Annotated[Path, typer.Argument(help="The model file to write.")],
) -> None:
    """Make one model of the halves that split learning left."""
    try:
        from ..models.split_halves import join_halves as join
    except ImportError:
        raise MissingExtra("joining halves", "sim") from None
    join(model, head, tail, out)
    print(out)


def _config(**values: Any) -> SplitRunConfig:
    try:
        from ..models.split_compression.methods import METHODS
        from .split_run import SplitRunConfig
    except ImportError:
        raise MissingExtra("split learning", "sim") from None
    if values["method"] not in METHODS:
        raise UsageError(f"--method: '{values['method']}' is none of {', '.join(sorted(METHODS))}")
    config: SplitRunConfig = checked(SplitRunConfig, **values)
    return config


def _data(config: SplitRunConfig, name: str, data_dir: Path | None) -> TrainingData:
    from ..models.data import NAMED, load_data
    from ..models.own import own_data
    from ..models.store import load_network
    from ..models.training_data import ClutterData, StoredData

    if name == "clutter":
        return ClutterData(config.seed, 1, 0)
    card = load_network(config.model)[1]
    if name in NAMED or not Path(name).exists():
        return StoredData(config.seed, lambda split: load_data(name, split, card=card, data_dir=data_dir))
    data, classes = own_data(Path(name), card, config.seed)
    # Labels are places among the model's classes; a set without names has numbers for them.
    if classes != card.classes and not (
        all(map(str.isdecimal, classes)) and len(classes) <= card.class_count
    ):
        raise UsageError(
            f"{name} has other classes than {card.name}: fine-tune with `splitpoint train --model` first"
        )
    return data


async def _over_grpc(
    config: SplitRunConfig, data: TrainingData, folder: Path, server: str, index: int, tls: Tls | None
) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from ..protos.client import ServiceClient, Timeouts
    from .split_run import Patient, split_run

    # A ping waits behind the step before it, which takes its time on a narrow link.
    timeouts = Timeouts(ping=config.step_timeout_s)

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    async with ServiceClient(server, device=index, tls=tls, timeouts=timeouts) as client:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("split learning", total=None)

            def said(entry: dict[str, Any]) -> None:
                accuracy = entry["calibration_accuracy"]
                shown = "" if accuracy is None else f" accuracy {accuracy:.3f}"
                traffic = (entry["bytes_up"] + entry["bytes_down"]) / 1e6
                console.print(f"epoch {entry['epoch']} loss {entry['loss']:.3f}{shown} {traffic:.1f} MB")

            return await split_run(
                config,
                data,
                Patient(client, config.step_timeout_s, config.patience_s),
                folder,
                begin=lambda done, steps: bar.update(task, completed=done, total=steps),
                tick=lambda: bar.advance(task),
                said=said,
            )
