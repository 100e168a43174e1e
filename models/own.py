"""Somebody's own model on somebody's own data: what `splitpoint train --model FILE --data-dir FOLDER` trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import DataError, UsageError
from ..seeding import generator
from .card import ModelCard
from .data import Dataset, load_data, split_path
from .data_file import write_parquet
from .holdout import divided
from .measure import images_id
from .profile import SplitName
from .store import load_network
from .train_config import TrainConfig
from .training_data import StoredData
from .vit import SplitViT

__all__ = ["adapted", "check_held_out", "keep_held_out", "own_config", "own_data", "trained_flipped"]

_MOST_CLASSES = 1 << 16  # a profile keeps labels in two bytes


def _classes(source: Path, whole: Dataset) -> tuple[str, ...]:
    low, high = int(whole.labels.min()), int(whole.labels.max())
    count = len(whole.classes) or high + 1
    if low < 0 or count > _MOST_CLASSES:
        raise DataError(
            f"{source}: labels span {low}..{high}; they must be classes 0, 1, ... below {_MOST_CLASSES}"
        )
    if low == high:
        raise DataError(f"{source} has one class only; there is nothing to tell apart")
    return whole.classes or tuple(str(label) for label in range(count))


def _chosen(data: Dataset, part: str) -> Dataset:
    places = divided(len(data), part)
    return Dataset(data.images[places], data.labels[places], data.classes)


def _train_path(source: Path) -> Path | None:
    """The training split of a folder that is divided; None of one that has a folder of pictures called train."""
    path = split_path(source, "train") if source.is_dir() else None
    if path is None or (path.is_dir() and not any(entry.is_dir() for entry in path.iterdir())):
        return None
    return path


class _OwnData:
    """The splits of one folder or file, read once.

    FOLDER/train and, where they are there, FOLDER/calibration and FOLDER/test (`data.split_path`);
    else FOLDER is an image folder or one parquet file itself. A split that has no file of its own is a tenth
    kept out of the rest.
    """

    def __init__(self, source: Path, base: ModelCard, matched: bool) -> None:
        train = _train_path(source)
        card = base if matched else base.model_copy(update={"classes": ()})
        self.whole = load_data(train or source, card=card)
        self.classes = base.classes if matched else _classes(source, self.whole)
        self._card = base.model_copy(update={"classes": self.classes})
        self._found = {
            split: split_path(source, split) if train else None for split in ("evaluation", "calibration")
        }

    def load(self, split: str) -> Dataset:
        rest = self.whole
        for kept_out in ("evaluation", "calibration"):
            path = self._found[kept_out]
            if split == kept_out:
                return _chosen(rest, "calibration") if path is None else load_data(path, card=self._card)
            if path is None:
                rest = _chosen(rest, "train")
        return rest


def own_data(
    source: Path | str, base: ModelCard, seed: int, *, matched: bool = False, flip: bool | None = None
) -> tuple[StoredData, tuple[str, ...]]:
    """Training data from a folder or parquet file, its images fitted to the base's input; and the class names.

    matched  labels are the base's classes, as in `load_data`; else the data's own, of which there must be two at least
    flip     as of `StoredData`; None: as the base was trained

    DataError if there are no labelled images, or too few, or their classes do not do.
    """
    source = Path(source).absolute()  # a folder that is named like a named set is meant
    if source.is_dir() and not any(source.iterdir()):
        raise DataError(f"{source} is empty: put one folder of images a class there, or train.parquet")
    own = _OwnData(source, base, matched)
    identity = f"{images_id(own.whole)} {'|'.join(own.classes)}"
    data = StoredData(seed, own.load, flip=trained_flipped(base) if flip is None else flip, identity=identity)
    if len(data.train) < 2:
        raise DataError(f"{source}: of {len(own.whole)} images {len(data.train)} are left to train on")
    return data, own.classes


def trained_flipped(card: ModelCard) -> bool:
    """Whether a network's training saw mirror images; where nothing is said they do no harm."""
    config = card.training.get("config")
    return not (isinstance(config, dict) and config.get("flip") is False)


def check_held_out(source: Path, folder: Path, checkpoint: Path) -> None:
    """UsageError for a `folder` that is no place for what `keep_held_out` leaves there.

    One within an image folder, where folders are classes; one that has files of these names, not of the training that
    `checkpoint` is of; and one with a training split of the same images: it would be read as a divided folder, and who
    trained on that would train on what is kept out.
    """
    if source.is_dir() and not _train_path(source) and folder.resolve().is_relative_to(source.resolve()):
        raise UsageError(
            f"{folder} lies in the image folder {source}, where folders are classes: give another --out"
        )
    for split in ("calibration", "evaluation"):
        path = folder / f"{split}.parquet"
        if path.exists() and not checkpoint.exists():
            raise UsageError(f"{path} is there already and would be written over: give another --out")
    train = _train_path(folder)
    if train and folder.resolve() in (source.resolve(), source.resolve().parent):
        raise UsageError(
            f"the images that are kept out would lie beside {train}, which has them too: give another --out"
        )


def keep_held_out(data: StoredData, folder: Path, seed: int) -> dict[SplitName, Path]:
    """The two splits that training did not see, shuffled, as FOLDER/calibration.parquet and evaluation.parquet.

    Profiles of the trained model are measured on them and scenarios draw their inputs from the second.
    """
    kept: dict[SplitName, Path] = {}
    splits: list[tuple[SplitName, Dataset]] = [
        ("calibration", data.held_out),
        ("evaluation", data.evaluation),
    ]
    for split, found in splits:
        # An image folder lists class after class.
        order = generator(seed, f"own-{split}").permutation(len(found))
        shuffled = Dataset(found.images[order], found.labels[order], found.classes)
        kept[split] = write_parquet(shuffled, folder / f"{split}.parquet")
    return kept


def own_config(model: str, base: ModelCard, name: str, **changes: Any) -> TrainConfig:
    """How a trained model is taken over: few epochs at low rates, exits at thirds of its depth."""
    if base.depth < 2:
        raise UsageError(f"{model} has {base.depth} block only: there is nowhere to cut")
    thirds = sorted({max(1, base.depth // 3), max(1, 2 * base.depth // 3), base.depth})
    values: dict[str, Any] = {
        "network": name,
        "start": base.id,
        "backbone_epochs": 2,
        "mixed_epochs": 4,
        "views": 1,
        "batch": 32,
        "flip": trained_flipped(base),
        "backbone_rate": 1e-4,
        "mixed_rate": 1e-4,
        "dim": base.dim,
        "depth": base.depth,
        "heads": base.heads,
        "mlp_ratio": base.mlp_ratio,
        "exits": base.exits if base.exit_kind == "recursive" else tuple(thirds),
        "exit_state_dim": base.exit_state_dim or max(16, base.dim // 2),
    }
    return TrainConfig.model_validate(values | changes)


def adapted(model: str, config: TrainConfig, classes: tuple[str, ...]) -> SplitViT:
    """The model's stem, positions and blocks under new recursive exits; its own recursive ones where they still fit.

    Gates are left out: they were fitted to blocks that will change (`splitpoint train-gates` fits them anew).
    """
    base, card = load_network(model, without_classifier=True)
    torch.manual_seed(config.seed)
    network = SplitViT(
        card.model_copy(
            update={
                "name": config.network,
                "id": "",
                "classes": classes,
                "exits": config.exits,
                "exit_kind": "recursive",
                "exit_state_dim": config.exit_state_dim,
                "gates": False,
                "training": {},
            }
        )
    )
    wanted = network.state_dict()
    kept = {
        name: value
        for name, value in base.state_dict().items()
        if name in wanted and value.shape == wanted[name].shape
    }
    # A plain ViT's one exit is its last, and would become the first.
    if card.classes != classes or card.exit_kind == "linear":
        kept = {name: value for name, value in kept.items() if not name.startswith(("exits.", "phi."))}
    network.load_state_dict(wanted | kept)
    return network
