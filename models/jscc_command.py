"""`splitpoint train-jscc`: joint source-channel codes for a model, one for each cut asked for, beside its file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..whole_file import check_writable
from .accelerator import training_device
from .joint_file import joint_path
from .jscc_train import JsccConfig, train_code
from .store import load_network, resolve, save_codes
from .training_views import training_views

__all__ = ["train_codes"]

_LINE_EVERY = 100


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
