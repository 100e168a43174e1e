"""`splitpoint train-codec`: other bottlenecks and code tables for a model that exists, in a file of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import UsageError
from ..whole_file import check_writable
from .accelerator import training_device
from .activations import Activations, activations, tail_logits
from .code_tables import network_tables
from .codec_train import CodecConfig, check_checkpoints, check_cuts, received, train_bottleneck
from .compression import Bottleneck
from .store import codec_arrays, load_network, resolve, save_network
from .training_views import training_views
from .vit import SplitViT

__all__ = ["train_codec"]

_LINE_EVERY = 100
_REPORTED = 1000
"""Samples at most of the calibration split that the card's report is on."""
_TABLE_SAMPLES = 200
_POINTS = ((0.0625, 4, 3), (0.125, 4, 3), (0.25, 3, 4))
"""keep, the share of the dim that dims are, bits."""


def train_codec(
    model: str | Path, config: CodecConfig, out: Path, *, data: str = "clutter", data_dir: Path | None = None
) -> Path:
    """Train the bottlenecks of `config.cuts`, all by default, and write the model with them to `out`,
    NAME.safetensors; returns the path.

    data  named set, parquet file or image folder: its training split, and calibration for the report

    The card takes the file's name, and records the configuration, and the accuracy on the calibration split behind
    the old and the new codec. NAME.codec/ beside it has the checkpoints of a run that was killed.
    Before anything is trained: DataError where nothing can be written, UsageError for an `out` that is no new
    safetensors, for a network with gates, for cuts that it has not and for the checkpoint of another run.
    """
    if out.suffix != ".safetensors" or out.resolve() == resolve(model).resolve():
        raise UsageError(f"--out: must be NAME.safetensors, and another file than {model}, not {out}")
    check_writable(out, "model file")
    network, card = load_network(model)
    cuts = config.cuts or tuple(range(1, card.depth))
    check_cuts(card, cuts)
    arrays = {k: v for k, v in codec_arrays(resolve(model)).items() if k.startswith("codec.")}
    device = training_device(config.accelerator)
    network.to(device)
    views = training_views(data, card, config.seed, data_dir)
    work = out.with_suffix(".codec")
    check_checkpoints(card, views, config, cuts, work)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    began, report = time.perf_counter(), []
    with Progress(*columns, console=console) as bar:
        for cut in cuts:
            task = bar.add_task(f"codec at cut {cut}", total=config.steps)

            def tick(step: int, loss: float, cut: int = cut, task: object = task) -> None:
                bar.update(task, completed=step, description=f"codec at cut {cut} loss {loss:.3f}")  # type: ignore[arg-type]
                if not console.is_terminal and step % _LINE_EVERY == 0:
                    print(
                        f"cut {cut} step {step}/{config.steps} loss {loss:.3f}", file=sys.stderr, flush=True
                    )

            old = Bottleneck.from_arrays(arrays, cut, card.dim)
            new = train_bottleneck(
                network,
                Bottleneck.from_arrays(arrays, cut, card.dim),
                views,
                config,
                cut,
                work,
                tick,
            )
            held_out = views.held_out
            every = -(-len(held_out) // _REPORTED)
            known = activations(network, held_out.images[::every], held_out.labels[::every], cut).to(device)
            rested = bool(np.any(arrays.get(f"codec.{cut}.rest", False)))
            for keep, share, bits in _POINTS:
                dims = max(1, card.dim // share)
                report.append(
                    {
                        "cut": cut,
                        "keep": keep,
                        "dims": dims,
                        "bits": bits,
                        "before": _accuracy(network, old.to(device), known, cut, keep, dims, bits, rested),
                        "after": _accuracy(network, new, known, cut, keep, dims, bits, config.rest),
                    }
                )
            arrays |= new.arrays(cut)
            arrays[f"codec.{cut}.rest"] = np.array([config.rest], np.uint8)
    for row in report:
        print("  ".join(f"{name} {value:g}" for name, value in row.items()), file=sys.stderr)
    record = {
        "config": config.model_dump(exclude={"accelerator"}, mode="json"),
        "data": data,
        "from": card.id,
        "seconds": round(time.perf_counter() - began, 1),
        "calibration": report,
    }
    trained = card.model_copy(
        update={"name": out.stem, "id": "", "training": card.training | {"codec": record}}
    )
    network.cpu()
    arrays |= network_tables(network, arrays, views.epoch(0)[0][:_TABLE_SAMPLES])
    save_network(out, network, trained, arrays)
    for cut in cuts:
        (work / f"cut-{cut}.pt").unlink(missing_ok=True)
    if not any(work.iterdir()):  # a run with other cuts may have been killed
        work.rmdir()
    return out


@torch.no_grad()
def _accuracy(
    network: SplitViT,
    bottleneck: Bottleneck,
    known: Activations,
    cut: int,
    keep: float,
    dims: int,
    bits: int,
    rest: bool,
) -> float:
    """At the last exit."""
    x, keys, *_ = received(bottleneck, known, keep, dims, bits, rest)
    right = tail_logits(network, x, cut, known, keys=keys)[-1].argmax(dim=-1) == known.labels
    return round(float(right.float().mean()), 4)
