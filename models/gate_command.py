"""`splitpoint train-gates`: a budget token and gates for a network that exists, in a file of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from ..codec.entropy import is_table
from ..errors import UsageError
from ..whole_file import check_writable
from .data import Dataset
from .evaluate import accuracies
from .gate_eval import gate_report
from .gate_train import GateConfig, GateRun
from .identity import CODEC
from .step_bar import step_bar
from .store import check_other_file, codec_arrays, load_network, resolve, save_network
from .training_views import training_views

__all__ = ["train_gates"]

_LINE_EVERY = 20
_REPORTED = 1000
"""Samples at most of the calibration split that the card's report is on."""


def train_gates(
    model: str | Path,
    config: GateConfig,
    out: Path,
    *,
    data: str = "clutter",
    data_dir: Path | None = None,
    threads: int = 1,
) -> Path:
    """Train gates for `model` and write the network with them to `out`, NAME.safetensors; returns the path.

    data      named set, parquet file or image folder: its training split, and calibration for the report
    threads   of torch in this process

    The card takes the file's name, and records the configuration, and for some alphas what is kept and the
    accuracy on the calibration split; after steps also the accuracy without gates at every exit, on the evaluation
    split. NAME.gates.pt beside it is the checkpoint of a run that was killed. After steps the entropy coder's tables
    are left out: fit them anew (`splitpoint tables`), as the codes have changed.
    Raises DataError where nothing can be written, UsageError where `out` is the model itself, for the checkpoint of
    another run and for a network of one block, between which gates would stand, or of one patch.
    """
    torch.set_num_threads(threads)
    check_other_file(out, model)
    check_writable(out, "model file")
    network, card = load_network(model)
    if card.depth < 2 or card.patch_tokens < 2:
        raise UsageError(f"{model}: gates need two blocks to stand between and two patches to choose from")
    path = resolve(model)
    codec = {k: v for k, v in codec_arrays(path).items() if k.startswith(CODEC)}
    if config.steps:
        codec = {k: v for k, v in codec.items() if not is_table(k)}
    views = training_views(data, card, config.seed, data_dir)
    checkpoint = out.with_suffix(".gates.pt")
    run = GateRun(config, network, codec, views, checkpoint)
    began = time.perf_counter()
    with step_bar(_LINE_EVERY) as begin:
        run.run(begin(f"gates of {card.name}", config.steps or 1))
    seconds = time.perf_counter() - began
    held_out = views.held_out
    every = -(-len(held_out) // _REPORTED)
    few = Dataset(held_out.images[::every], held_out.labels[::every], held_out.classes)
    report = gate_report(run.network, few)
    for row in report:
        print("  ".join(f"{name} {value:g}" for name, value in row.items()), file=sys.stderr)
    record = {
        "config": config.model_dump(exclude={"accelerator"}, mode="json"),
        "from": card.id,
        "seconds": round(seconds, 1),
        "calibration": report,
    }
    training = card.training | {"gates": record}
    if config.steps:  # the network is another one
        training["evaluation_accuracy"] = accuracies(run.network, run.card, views.evaluation)
    trained = run.card.model_copy(update={"name": out.stem, "id": "", "training": training})
    save_network(out, run.network, trained, run.codec_arrays(codec))
    checkpoint.unlink(missing_ok=True)
    return out
