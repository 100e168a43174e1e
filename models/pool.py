"""Training of a pool: small early-exit learners, one after the other, from which QUEST picks ensembles (`quest`).

Each learner has its own seed, and with it its own first weights, augmentation and share of the training samples.
A learner that is done is not trained again; one that was interrupted goes on from its last epoch to the same
weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..alone import alone
from ..errors import UsageError, did_you_mean
from ..seeding import generator
from .accelerator import Accelerator
from .data import Dataset, load_data
from .evaluate import accuracies
from .learner_file import read_learner_card, save_learner
from .learner_run import LearnerRun
from .pool_config import LearnerConfig, pool_configs
from .shared_head import SharedHead, tail_configs
from .store import load_network
from .train_config import network_config
from .training_data import StoredData, TrainingData

__all__ = ["learner_data", "train_learner", "train_pool"]


def _accuracies(run: LearnerRun, data: Dataset) -> list[float]:
    return accuracies(run.whole, run.input_card, data, batch=250)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def learner_data(config: LearnerConfig, load: Callable[[str], Dataset]) -> StoredData:
    """The splits as one learner sees them: of the training samples the share that its seed draws."""

    def shared(split: str) -> Dataset:
        data = load(split)
        if split != "train" or config.share == 1.0:
            return data
        order = generator(config.seed, "learner-samples").permutation(len(data))
        kept = order[: max(1, round(config.share * len(data)))]
        return Dataset(data.images[kept], data.labels[kept], data.classes)

    return StoredData(config.seed, shared, light=True)


def _trained_as(path: Path) -> LearnerConfig | None:
    """The configuration that a finished learner was trained by; None where its card does not tell."""
    card = read_learner_card(path)
    told = card.training.get("config")
    if not isinstance(told, dict):
        return None
    try:
        return LearnerConfig.model_validate(
            {"card": card.model_copy(update={"id": "", "training": {}}), **told}
        )
    except ValidationError:
        return None


def train_learner(
    config: LearnerConfig,
    data: TrainingData,
    out: Path,
    command: str,
    head: SharedHead | None = None,
    accelerator: Accelerator = "auto",
) -> Path:
    """Train one learner and write out/NAME.safetensors; returns its path.

    out/NAME.checkpoint.pt is written after each epoch and removed at the end. A finished file of the same
    configuration is left as it is; UsageError for one, or for a checkpoint, of another configuration, DataError
    where nothing can be written. The card records the configuration, `command`, the seconds of training and the
    accuracy at every gate on the evaluation split.
    """
    path = out / f"{config.name}.safetensors"
    if path.is_file():
        if _trained_as(path) != config:
            raise UsageError(f"{path} is of another configuration: give another --out or remove it")
        _say(f"{config.name}: done before")
        return path
    out.mkdir(parents=True, exist_ok=True)
    run = LearnerRun(config, data, out / f"{config.name}.checkpoint.pt", head, accelerator)
    if run.resume():
        _say(f"{config.name}: going on after epoch {run.epoch}")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(config.name, total=config.epochs, completed=run.epoch)
        while run.epoch < config.epochs:
            began = time.perf_counter()
            loss = run.one_epoch(lambda: None)
            run.seconds += time.perf_counter() - began
            run.save()
            shown = " ".join(f"{value:.3f}" for value in _accuracies(run, data.held_out))
            said = f"{config.name} epoch {run.epoch}/{config.epochs} loss {loss:.3f} accuracy {shown}"
            bar.update(task, completed=run.epoch, description=said)
            if not console.is_terminal:  # a log file gets lines instead of a bar
                _say(said)
    record: dict[str, object] = {
        "command": command,
        "config": config.model_dump(exclude={"card"}, mode="json"),
        "seconds": round(run.seconds, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "evaluation_accuracy": _accuracies(run, data.evaluation),
    }
    save_learner(path, run.network, config.card.model_copy(update={"training": record}))
    run.checkpoint.unlink(missing_ok=True)
    return path


def train_pool(
    pool: str,
    out: Path,
    data_dir: Path | None = None,
    *,
    seed: int = 0,
    learners: int = 0,
    only: Sequence[str] = (),
    threads: int = 0,
    head: str = "",
    cut: int = 0,
    accelerator: Accelerator = "auto",
    **changes: object,
) -> list[Path]:
    """Train a pool's learners, or the first `learners`, or `only` those named; returns their files.

    pool     named pool; with `head` the named data set that the tails are trained on
    head     model that tails are trained behind, on its tokens after block `cut` (`shared_head`), instead of a pool
    changes  fields of `LearnerConfig`: epochs, regime
    Several processes may train one pool into one folder: a learner that another one trains is passed over.
    """
    if threads:
        torch.set_num_threads(threads)
    shared = SharedHead(load_network(head)[0], cut) if head else None
    configs = tail_configs(shared, seed, **changes) if shared else pool_configs(pool, seed, **changes)
    configs = configs[: learners or None]
    known = [config.name for config in configs]
    for name in only:
        if name not in known:
            raise UsageError(f"unknown learner '{name}'; {did_you_mean(name, known)}")
    loaded: dict[str, Dataset] = {}

    def load(split: str) -> Dataset:
        if split not in loaded:
            card = shared.card if shared else network_config(pool).card()
            loaded[split] = load_data(pool, split, card=card, data_dir=data_dir)
        return loaded[split]

    short = "".join(f" --{name} {value}" for name, value in changes.items())
    behind = f" --head {Path(head).name} --cut {cut}" if head else ""
    command = f"splitpoint train-pool {pool} --seed {seed}{behind}{short}"
    found = []
    for config in configs:
        if only and config.name not in only:
            continue
        lock = out / f"{config.name}.lock"
        with alone(lock) as mine:
            if mine:
                found.append(
                    train_learner(config, learner_data(config, load), out, command, shared, accelerator)
                )
                # Who has it open already finds the learner done.
                lock.unlink()
            else:
                _say(f"{config.name}: another process trains it")
    return found
