"""`splitpoint train-jscc`: joint source-channel codes for a model, one for each cut asked for, beside its file."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import DataError
from ..whole_file import check_writable
from .accelerator import training_device
from .card import ModelCard
from .data import NAMED, load_data
from .joint_file import joint_path
from .jscc_train import JsccConfig, train_code
from .own import own_data
from .store import load_network, resolve, save_codes
from .training_data import ClutterData, StoredData, TrainingData

__all__ = ["train_codes", "training_views"]

_VIEWS = 4
_LINE_EVERY = 100


def training_views(data: str, card: ModelCard, seed: int, data_dir: Path | None = None) -> TrainingData:
    """Views of the training split of a named set, an image folder or a parquet file, for the network of `card`.

    DataError where they have other classes than the network, or are clutter's canvases and it takes other images.
    """
    if data == "clutter":
        drawn = ClutterData(seed, _VIEWS, 0)
        shape, classes = drawn.held_out.images.shape[1:], drawn.held_out.classes
        if (shape, classes) != ((*card.image_size, card.channels), card.classes):
            raise DataError(
                f"clutter's canvases, {shape} of {len(classes)} digits, are not what {card.name} takes"
            )
        return drawn
    if data in NAMED:
        return StoredData(seed, partial(load_data, data, card=card, data_dir=data_dir))
    return own_data(data, card, seed, matched=True)[0]


def train_codes(
    model: str | Path, config: JsccConfig, work: Path, *, data: str = "clutter", data_dir: Path | None = None
) -> Path:
    """Train the codes of all cuts of `config`, with a bar and, without a terminal, lines on stderr; returns their file.

    work  folder of the checkpoints, from which a later call goes on

    Raises UsageError for cuts that the network has not, DataError where nothing can be written.
    """
    network, card = load_network(model)
    check_writable(joint_path(resolve(model)), "joint codes")
    network.to(training_device(config.accelerator))
    views = training_views(data, card, config.seed, data_dir)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    arrays: dict[str, NDArray[np.generic]] = {}
    with Progress(*columns, console=console) as bar:
        for cut in config.cuts:
            task = bar.add_task(f"code at cut {cut}", total=config.steps)

            def tick(step: int, loss: float, cut: int = cut, task: object = task) -> None:
                bar.update(task, completed=step, description=f"code at cut {cut} loss {loss:.3f}")  # type: ignore[arg-type]
                if not console.is_terminal and step % _LINE_EVERY == 0:
                    print(
                        f"cut {cut} step {step}/{config.steps} loss {loss:.3f}", file=sys.stderr, flush=True
                    )

            code = train_code(network, views, config, cut, work, tick)
            arrays |= {f"jscc.{cut}.{name}": array for name, array in code.arrays().items()}
    record = config.model_dump(exclude={"accelerator"}, mode="json") | {"data": data}
    return save_codes(resolve(model), arrays, record)
