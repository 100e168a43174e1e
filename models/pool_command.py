"""The commands of pools: `splitpoint train-pool` and `splitpoint profile-pool`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DataError
from ..options import AcceleratorName, AcceleratorOption, need_sim
from ..whole_file import check_writable

__all__ = ["profile_pool", "train_pool"]


class RegimeName(StrEnum):
    mixed = "mixed"
    joint = "joint"
    disjoint = "disjoint"


def train_pool(
    pool: Annotated[
        str, typer.Argument(help="Which pool: cifar10. With --head the named data set.")
    ] = "cifar10",
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
    head: Annotated[
        str,
        typer.Option(metavar="MODEL", help="Tails over this model's head instead, which share its tokens."),
    ] = "",
    cut: Annotated[int, typer.Option(min=1, help="With --head: its blocks that the tails share.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0: its own number.")] = 1,
    accelerator: AcceleratorOption = AcceleratorName.auto,
) -> None:
    """Train a pool of small early-exit learners, one after the other.

    A learner that is done is not trained again, and one that was interrupted goes on from its last epoch. Several
    processes may train one pool into one folder: each passes over what another one trains.
    """
    need_sim("training a pool")
    from .pool import train_pool as train

    changes: dict[str, Any] = {}
    if epochs is not None:
        changes["epochs"] = epochs
    if regime is not None:
        changes["regime"] = regime.value
    for path in train(
        pool,
        out,
        data_dir,
        seed=seed,
        learners=learners,
        only=only or (),
        threads=threads,
        accelerator=accelerator.value,
        head=head,
        cut=cut,
        **changes,
    ):
        print(path)


def profile_pool(
    pool: Annotated[str, typer.Argument(help="Which pool: cifar10.")] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    folder: Annotated[Path, typer.Option(help="Where train-pool put the learners.")] = Path("runs/pool"),
    out: Annotated[
        Path | None, typer.Option(help="Folder of the two profiles and the ensembles; --folder by itself.")
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="MODEL", help="Another learner beside the pool's, such as the device's."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Only so many of a split; 0: all.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="1: bit for bit what a server answers.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Measure a pool's profiles on the calibration and the evaluation split, and let QUEST pick ensembles of 3 and 5.

    QUEST reads the calibration profile, and picks among the pool's own learners.
    """
    need_sim("measuring a pool")
    import torch

    from .data import load_data
    from .learner import load_learner
    from .pool_config import pool_configs
    from .pool_measure import measure_pool
    from .quest import write_ensembles
    from .train_config import network_config

    torch.set_num_threads(threads)
    files = [folder / f"{config.name}.safetensors" for config in pool_configs(pool)]
    own = [load_learner(path) for path in files if path.is_file()]
    if not own:
        raise DataError(
            f"there are no learners of the pool {pool} in {folder}: splitpoint train-pool makes them"
        )
    learners = own + [load_learner(name) for name in with_ or ()]
    names = [one.name for one in own]
    out = out or folder
    check_writable(out / "pool.calibration.npz", "profile")
    for split in ("calibration", "evaluation"):
        data = load_data(pool, split, card=network_config(pool).card(), data_dir=data_dir)
        data = data.some(samples) if samples else data
        profile = measure_pool(
            learners, split, data, batch=batch, say=lambda text: print(text, file=sys.stderr)
        )
        profile.save(out / f"pool.{split}.npz")
        print(out / f"pool.{split}.npz")
        if split == "calibration":
            sizes = [size for size in (3, 5) if size <= len(own)]
            write_ensembles(out / "pool.ensemble.json", profile, sizes, names)
            print(out / "pool.ensemble.json")
