"""Labelled images: the built-in `clutter`, named sets, parquet files, and folders with one folder a class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UsageError, did_you_mean
from . import clutter
from .card import ModelCard
from .classes import classes_of_folders, classes_of_labels, classes_of_numbers
from .holdout import divided
from .images import fit_images, image_files, read_image
from .parquet_file import read_rows

__all__ = ["NAMED", "Dataset", "load_data", "split_path"]

NAMED = ("cifar10", "clutter")
"""Data sets that go by name; all but `clutter` are read from the data directory."""

_SPLITS = {
    "calibration": ("calibration",),
    "evaluation": ("evaluation", "test", "testing", "val", "valid", "validation"),
    "train": ("train", "training"),
}
"""What the file or folder of each split may be called, with a capital or without."""


@dataclass(frozen=True)
class Dataset:
    """images uint8 (N, H, W, C), labels int64 (N,), class names (empty where the source has none)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, count: int) -> Dataset:
        """The first `count` samples, or all; of data that list class after class, as folders do, evenly spread ones."""
        if count >= len(self):
            return self
        by_class = np.count_nonzero(np.diff(self.labels)) == len(np.unique(self.labels)) - 1
        places = np.arange(count) * (len(self) if by_class else count) // count
        return Dataset(self.images[places], self.labels[places], self.classes)


def _stacked(
    images: list[NDArray[np.uint8]],
    labels: list[int],
    classes: tuple[str, ...],
    source: Path,
    card: ModelCard | None,
) -> Dataset:
    if not images:
        raise DataError(f"there are no images in {source}")
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise DataError(
            f"{source}: images of {len(shapes)} different shapes; name a model, whose size they get"
        )
    low, high = min(labels), max(labels)
    if card is not None and card.classes and (low < 0 or high >= card.class_count):
        raise DataError(
            f"{source}: labels span {low}..{high}, the model {card.name} has {card.class_count} classes"
        )
    return Dataset(np.stack(images), np.asarray(labels, dtype=np.int64), classes)


def _read_parquet(path: Path, card: ModelCard | None) -> Dataset:
    images, labels, names = read_rows(path, card)
    if names and labels and not 0 <= min(labels) <= max(labels) < len(names):
        raise DataError(
            f"{path}: labels span {min(labels)}..{max(labels)}, but only {len(names)} of them have names"
        )
    if card is not None and card.classes:
        if not names:
            labels = classes_of_numbers(labels, card, path)
        elif (meant := classes_of_labels(names, card, path)) is not None:
            labels, names = [meant[label] for label in labels], card.classes
    return _stacked(images, labels, names, path, card)


def _no_image_folder(path: Path, names: tuple[str, ...]) -> DataError:
    """What to say of a folder whose sub-folders, if it has any, hold no images or are no classes."""
    parquet = next(path.rglob("*.parquet"), None)
    if parquet is not None:
        return DataError(
            f"{path} is no image folder, but holds {parquet.relative_to(path)}: "
            "name a parquet file, or several of one set by a pattern like 'train-*.parquet'"
        )
    if not names:
        return DataError(f"{path} has no sub-folders; an image folder has one for each class")
    return DataError(f"there are no images in {path}")


def _are_splits(names: tuple[str, ...]) -> bool:
    """Whether folders are splits and no classes. One that is called train may be of locomotives, beside others."""
    found = {name.lower() for name in names}
    splits = {alias for aliases in _SPLITS.values() for alias in aliases}
    return found <= splits or (not found.isdisjoint(_SPLITS["train"]) and len(found & splits) > 1)


def _read_folder(path: Path, card: ModelCard | None) -> Dataset:
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    names = tuple(folder.name for folder in folders)
    for name in names:
        if name != name.encode(errors="replace").decode():
            raise DataError(f"{path}: the folder {name!r} is not named in UTF-8, as classes are: rename it")
    files = [image_files(folder) for folder in folders]
    if not any(files):
        raise _no_image_folder(path, names)
    if _are_splits(names):
        raise DataError(
            f"{path} is divided into {', '.join(names)}: name one of these folders, with a folder for each class"
        )
    if card is not None and card.classes:
        numbers, names = classes_of_folders(names, card, path), card.classes
    elif [] in files:
        raise DataError(f"there are no images in {folders[files.index([])]}: no network can learn that class")
    else:
        numbers = list(range(len(names)))
    size, channels = (card.image_size, card.channels) if card else (None, None)
    images = [read_image(file, size, channels) for found in files for file in found]
    labels = [number for number, found in zip(numbers, files, strict=True) for _ in found]
    return _stacked(images, labels, names, path, card)


def split_path(folder: Path, split: str) -> Path | None:
    """What holds a split in a folder: SPLIT.parquet, the image folder SPLIT, or SPLIT-*-of-*.parquet; None if none."""
    for alias in _SPLITS[split]:
        for spelt in (alias, alias.capitalize(), alias.upper()):
            parts = f"{spelt}-*-of-*.parquet"
            for name in (f"{spelt}.parquet", spelt, parts):
                if (folder / name).exists() or (name is parts and any(folder.glob(parts))):
                    return folder / name
    return None


def _named_path(name: str, split: str, data_dir: Path | None) -> Path | None:
    """Where a named set's split lies; None for a calibration split to be kept out of the training one."""
    given = data_dir or (Path(os.environ["SPLITPOINT_DATA"]) if "SPLITPOINT_DATA" in os.environ else None)
    if given is None:
        raise DataError(
            f"the data set {name} is not built in: set SPLITPOINT_DATA to the folder that it lies in, or give "
            "--data-dir to a command that has it"
        )
    found = split_path(given / name, split) or split_path(given, split)
    if found is None and split != "calibration":
        raise DataError(f"there is no {name}/{split}.parquet nor a folder {name}/{split} in {given}")
    return found


def _read(path: Path, card: ModelCard | None) -> Dataset:
    return _read_folder(path, card) if path.is_dir() else _read_parquet(path, card)


def _named(name: str, split: str, card: ModelCard | None, data_dir: Path | None) -> Dataset:
    """A split of a named set; without a calibration file both it and the rest come out of the training one."""
    path = _named_path(name, split, data_dir)
    kept_out = split == "train" and _named_path(name, "calibration", data_dir) is None
    if path is not None and not kept_out:
        return _read(path, card)
    whole = _read(path or cast(Path, _named_path(name, "train", data_dir)), card)
    chosen = divided(len(whole), split)
    return Dataset(whole.images[chosen], whole.labels[chosen], whole.classes)


def load_data(
    name_or_path: str | Path,
    split: str = "evaluation",
    *,
    card: ModelCard | None = None,
    data_dir: Path | str | None = None,
) -> Dataset:
    """A named set's split, a parquet file (`image` bytes, `label`) or several by a pattern, or an image folder.

    card      images are resized and converted to its size and channels; labels are the numbers of its classes, by the
              names of folders and of a parquet file's labels. One without classes takes what classes there are
    data_dir  where named sets lie (NAME/SPLIT.parquet or NAME/SPLIT/CLASS/*.png); default $SPLITPOINT_DATA

    The calibration split of a named set is, where no file has it, a tenth kept out of the training one
    (`holdout.divided`). A file or folder has no splits of its own: `split` is not looked at. UsageError for
    an unknown name or split, DataError for what cannot be read, MissingExtra without scikit-learn or pyarrow
    if they are needed.
    """
    if split not in _SPLITS:
        raise UsageError(f"unknown split '{split}'; {did_you_mean(split, _SPLITS)}")
    name, path = str(name_or_path), Path(name_or_path)
    if name == "clutter":
        images, labels = clutter.canvas_split(split)
        classes = tuple("0123456789")
        if card is None:
            return Dataset(images, labels, classes)
        if card.classes:
            labels, classes = np.array(classes_of_folders(classes, card, path))[labels], card.classes
        return Dataset(fit_images(images, card), labels, classes)
    if name in NAMED:
        return _named(name, split, card, Path(data_dir) if data_dir else None)
    if not path.exists() and len(path.parts) == 1 and not path.suffix:
        raise UsageError(
            f"unknown data set '{name}'; {did_you_mean(name, NAMED)}, or give a path that exists"
        )
    return _read(path, card)
