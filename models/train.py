"""Training of a network, by default in the "mixed" regime (`regimes`).

1. The backbone with its last exit alone (cross-entropy, smoothed labels).
2. All exits together with the backbone, and behind a codec whose cut, keep, dims and bits are drawn anew for
   each step (`losses.mixed_loss`). The bottlenecks start from the principal axes of the activations.

The "joint" regime knows part 2 only; in the "disjoint" one the backbone stands still in it.

Every epoch sees fresh views of the training samples. All draws are keyed by (seed, epoch), and each epoch
ends in a checkpoint, so that a run that was killed goes on to the same weights.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import DataError, MissingExtra, UsageError
from ..whole_file import check_writable
from .data import load_data
from .evaluate import accuracies
from .measure import measure_file
from .own import adapted, check_held_out, keep_held_out, own_data
from .store import check_other_file, load_network, save_network
from .train_config import TrainConfig
from .train_run import CHECKPOINT, TrainRun
from .training_data import ClutterData, StoredData, TrainingData
from .vit import SplitViT

__all__ = ["train"]

_PROFILED = 1000
"""Images of a split that an own model is measured on, at most: a thousand take DeiT-tiny 2 or 3 hours and 2 GB."""


def _source(config: TrainConfig, model: str, data_dir: Path | None) -> tuple[SplitViT, TrainingData]:
    """The network to train, in its first state, and its data."""
    if model:
        if data_dir is None:
            raise UsageError("training an own model needs --data-dir: an image folder or parquet file")
        base = load_network(model, without_classifier=True)[1]
        data, classes = own_data(data_dir, base, config.seed, flip=config.flip)
        return adapted(model, config, classes), data
    torch.manual_seed(config.seed)
    network = SplitViT(config.card())
    if config.network == "clutter":
        return network, ClutterData(config.seed, config.views, config.parts()[0] // 6)
    return network, StoredData(
        config.seed,
        lambda split: load_data(config.network, split, card=network.card, data_dir=data_dir),
        flip=config.flip,
    )


def train(config: TrainConfig, out: Path, data_dir: Path | None = None, model: str = "") -> Path:
    """Train and write the model file; returns its path.

    out       the file (NAME.safetensors; NAME.training/ beside it is the working folder), or the working
              folder itself, where NETWORK.safetensors is put
    data_dir  where named data sets lie (`load_data`), or the data that an own model is trained on
              (`own.own_data`); `clutter` needs none
    model     an own model to start from, of which `config` is the `own.own_config`

    Beside an own model the splits that it did not see are kept as parquet files, and its two profiles, of a thousand
    images of each at most, so that a scenario can name it at once. The working folder gets checkpoint.pt, from which
    a later call with the same configuration goes on, and logs/ for TensorBoard. The card records the configuration,
    the seconds of training and the accuracy at every exit on the evaluation split. UsageError for a checkpoint of
    another configuration or other data, and where own data or the own model would be written over; DataError where
    nothing can be written, MissingExtra without the extra `sim`.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("training", "sim") from error

    out = Path(out)
    to_file = out.suffix == ".safetensors"
    folder = out.with_suffix(".training") if to_file else out
    path = out if to_file else out / f"{config.network}.safetensors"
    if model:
        check_other_file(path, model)
    if model and data_dir is not None:
        check_held_out(data_dir, path.parent, folder / CHECKPOINT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}") from error
    check_writable(path, "model file")
    if config.threads:
        torch.set_num_threads(config.threads)
    run = TrainRun(config, *_source(config, model, data_dir), folder)
    run.resume()
    epochs = sum(config.parts())
    count = len(run.data.epoch(run.epoch)[1])
    steps = count // config.batch
    if not steps:
        raise DataError(f"{count} images to train on are less than one batch of {config.batch}")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with SummaryWriter(str(folder / "logs")) as log, Progress(*columns, console=console) as bar:
        task = bar.add_task(f"training {config.network}", total=epochs * steps, completed=run.epoch * steps)
        while run.epoch < epochs:
            began = time.perf_counter()
            loss = run.one_epoch(lambda: bar.advance(task))
            run.seconds += time.perf_counter() - began
            found = accuracies(run.network, run.card, run.data.held_out)
            log.add_scalar("loss", loss, run.epoch)
            for after, value in zip(config.exits, found, strict=True):
                log.add_scalar(f"calibration_accuracy/block_{after}", value, run.epoch)
            shown = " ".join(f"{value:.3f}" for value in found)
            said = f"epoch {run.epoch}/{epochs} loss {loss:.3f} accuracy {shown}"
            bar.update(task, description=said)
            if not console.is_terminal:  # a log file gets lines instead of a bar
                print(said, file=sys.stderr, flush=True)
            run.save()
    short = "" if config.epochs is None else f" --epochs {config.epochs}"
    regime = "" if config.regime == "mixed" else f" --regime {config.regime}"
    named = f"--model {Path(model).name}" if model else config.network
    record: dict[str, object] = {
        "command": f"splitpoint train {named} --seed {config.seed}{short}{regime}",
        "config": config.model_dump(exclude={"accelerator", "threads"}, mode="json"),
        "seconds": round(run.seconds, 1),
        "device": str(run.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "evaluation_accuracy": accuracies(run.network, run.card, run.data.evaluation),
    }
    save_network(path, run.network, run.card.model_copy(update={"training": record}), run.codec_arrays())
    if model and isinstance(run.data, StoredData):
        for split, kept in keep_held_out(run.data, path.parent, config.seed).items():
            measure_file(path, split, kept, samples=_PROFILED)
    return path
