"""The commands of pools: `splitpoint train-pool` and `splitpoint profile-pool`."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import MissingExtra

__all__ = ["train_pool"]


class RegimeName(StrEnum):
    mixed = "mixed"
    joint = "joint"
    disjoint = "disjoint"


def _need_torch(what: str) -> None:
    if find_spec("torch") is None:
        raise MissingExtra(what, "sim")


def train_pool(
    pool: Annotated[str, typer.Argument(help="Which pool: cifar10.")] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the learners' files and checkpoints.")] = Path(
        "runs/pool"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Root of the learners' seeds.")] = 0,
    learners: Annotated[int, typer.Option(min=0, help="Only the first so many; 0: all.")] = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this learner; may be given several times."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Shorter or longer than the default.")] = None,
    regime: Annotated[
        RegimeName | None, typer.Option(help="How backbone and exits are trained; mixed by itself.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0: its own number.")] = 1,
) -> None:
    """Train a pool of small early-exit learners, one after the other.

    A learner that is done is not trained again, and one that was interrupted goes on from its last epoch. Several
    processes may train other learners (--only) into one folder.
    """
    _need_torch("training a pool")
    from .pool import train_pool as train

    changes: dict[str, Any] = {}
    if epochs is not None:
        changes["epochs"] = epochs
    if regime is not None:
        changes["regime"] = regime.value
    for path in train(
        pool, out, data_dir, seed=seed, learners=learners, only=only or (), threads=threads, **changes
    ):
        print(path)
