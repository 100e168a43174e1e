"""`splitpoint train-codec`: other bottlenecks and code tables for a model that exists, in a file of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ..errors import UsageError
from ..whole_file import check_writable
from .accelerator import training_device
from .activations import activations, check_cuts, tail_logits
from .code_tables import network_tables
from .codec_train import CodecConfig, check_checkpoints, received, train_bottleneck
from .compression import Bottleneck
from .data import Dataset
from .identity import CODEC
from .step_bar import step_bar
from .store import check_other_file, codec_arrays, load_network, resolve, save_network
from .training_views import training_views
from .vit import SplitViT

__all__ = ["train_codec"]

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
    if out.suffix != ".safetensors":
        raise UsageError(f"--out: must be NAME.safetensors, not {out}")
    check_other_file(out, model)
    check_writable(out, "model file")
    network, card = load_network(model)
    cuts = config.cuts or tuple(range(1, card.depth))
    check_cuts(card, cuts)
    arrays = {k: v for k, v in codec_arrays(resolve(model)).items() if k.startswith(CODEC)}
    device = training_device(config.accelerator)
    network.to(device)
    views = training_views(data, card, config.seed, data_dir)
    work = out.with_suffix(".codec")
    check_checkpoints(card, views, config, cuts, work)
    began = time.perf_counter()
    report: list[dict[str, float]] = []
    with step_bar() as begin:
        for cut in cuts:
            old, new = (Bottleneck.from_arrays(arrays, cut, card.dim).to(device) for _ in range(2))
            tick = begin(f"codec at cut {cut}", config.steps)
            train_bottleneck(network, new, views, config, cut, work, tick)
            rested = bool(np.any(arrays.get(f"codec.{cut}.rest", False)))
            report += _compared(
                network, cut, views.held_out, {"before": (old, rested), "after": (new, config.rest)}
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
def _compared(
    network: SplitViT, cut: int, held_out: Dataset, codecs: Mapping[str, tuple[Bottleneck, bool]]
) -> list[dict[str, float]]:
    """Accuracy at the last exit behind each codec, a bottleneck and whether rest tokens go along, at some points."""
    every = -(-len(held_out) // _REPORTED)
    known = activations(network, held_out.images[::every], held_out.labels[::every], cut)
    known, rows = known.to(next(network.parameters()).device), []
    for keep, share, bits in _POINTS:
        row: dict[str, float] = {
            "cut": cut,
            "keep": keep,
            "dims": max(1, network.card.dim // share),
            "bits": bits,
        }
        for name, (bottleneck, rest) in codecs.items():
            x, keys, *_ = received(bottleneck, known, keep, int(row["dims"]), bits, rest)
            right = tail_logits(network, x, cut, known, keys=keys)[-1].argmax(dim=-1) == known.labels
            row[name] = round(float(right.float().mean()), 4)
        rows.append(row)
    return rows
