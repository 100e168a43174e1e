"""Labelled images: the built-in `clutter`, named sets, parquet files, and folders with one folder a class."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import DataError, MissingExtra, UsageError, did_you_mean
from . import clutter
from .card import ModelCard
from .holdout import divided

__all__ = ["IMAGE_SUFFIXES", "NAMED", "Dataset", "fit_images", "load_data", "read_image"]

NAMED = ("cifar10", "clutter")
"""Data sets that go by name; all but `clutter` are read from the data directory."""

_SPLITS = ("calibration", "evaluation", "train")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class Dataset:
    """images uint8 (N, H, W, C), labels int64 (N,), class names (empty where the source has none)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Dataset:
        """The first `count` samples, or all."""
        return Dataset(self.images[:count], self.labels[:count], self.classes)


def read_image(
    source: Path | str | bytes,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    *,
    what: str = "",
) -> NDArray[np.uint8]:
    """One image, from a path or from JPEG or PNG bytes, as uint8 (H, W, C).

    Resized to `size` (height, width) if that differs, and made grey or RGB for `channels` 1 or 3; by default
    the image's own size, grey only if it is. DataError, naming `what`, if it cannot be read.
    """
    what = what or (f"the image {source}" if not isinstance(source, bytes) else "the image")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            grey = channels == 1 or (channels is None and opened.mode in ("1", "L"))
            picture = opened.convert("L" if grey else "RGB")
            if size is not None and picture.size != (size[1], size[0]):
                picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
            pixels = np.asarray(picture, dtype=np.uint8)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read {what}: {error}") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def fit_images(images: NDArray[np.uint8], card: ModelCard) -> NDArray[np.uint8]:
    """uint8 (N, H, W, C) resized and converted to the card's size and channels."""
    if images.shape[1:] == (*card.image_size, card.channels):
        return images
    out = []
    for image in images:
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        picture = picture.convert("L" if card.channels == 1 else "RGB")
        picture = picture.resize((card.image_size[1], card.image_size[0]), Image.Resampling.BICUBIC)
        out.append(np.asarray(picture, dtype=np.uint8).reshape(*card.image_size, card.channels))
    return np.stack(out)


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
    wanted = np.asarray(labels, dtype=np.int64)
    if card is not None and (wanted.min() < 0 or wanted.max() >= card.class_count):
        raise DataError(
            f"{source}: labels span {wanted.min()}..{wanted.max()}, "
            f"the model {card.name} has {card.class_count} classes"
        )
    return Dataset(np.stack(images), wanted, classes)


def _class_names(schema: Any, column: str) -> tuple[str, ...]:
    """Names that Hugging Face `datasets` keeps in the schema's metadata, if any."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[column]["names"])
    except (TypeError, KeyError, ValueError):
        return ()


def _read_parquet(path: Path, card: ModelCard | None) -> Dataset:
    try:
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException
    except ImportError as error:
        raise MissingExtra("reading parquet files", "sim") from error
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise DataError(f"cannot read the parquet file {path}: {str(error).splitlines()[0]}") from error
    columns = table.column_names
    image = next((name for name in ("image", "img") if name in columns), None)
    if image is None or "label" not in columns:
        raise DataError(f"{path} needs the columns 'image' and 'label'; it has: {', '.join(columns)}")
    size, channels = (card.image_size, card.channels) if card else (None, None)
    images = []
    for row, cell in enumerate(table.column(image).to_pylist()):
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise DataError(f"{path}: row {row} of column '{image}' holds no image bytes")
        images.append(read_image(data, size, channels, what=f"row {row} of {path}"))
    labels = table.column("label").to_pylist()
    for row, label in enumerate(labels):
        if isinstance(label, bool) or not isinstance(label, int):
            raise DataError(f"{path}: row {row} of column 'label' is {label!r}, not an integer")
    return _stacked(images, labels, _class_names(table.schema, "label"), path, card)


def _read_folder(path: Path, card: ModelCard | None) -> Dataset:
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir())
    if not folders:
        raise DataError(f"{path} has no sub-folders; an image folder has one for each class")
    names = tuple(folder.name for folder in folders)
    index = {name: place for place, name in enumerate(names)}
    if card is not None:
        # Folders named like the card's classes mean those classes, even if some are absent.
        known = {name: place for place, name in enumerate(card.classes)}
        if set(names) <= known.keys():
            index, names = known, card.classes
    size, channels = (card.image_size, card.channels) if card else (None, None)
    images, labels = [], []
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                images.append(read_image(file, size, channels))
                labels.append(index[folder.name])
    return _stacked(images, labels, names, path, card)


def _named_path(name: str, split: str, data_dir: Path | None) -> Path | None:
    """Where a named set's split lies; None for a calibration split to be kept out of the training one."""
    given = data_dir or (Path(os.environ["SPLITPOINT_DATA"]) if "SPLITPOINT_DATA" in os.environ else None)
    if given is None:
        raise DataError(f"the data set {name} is not built in: give --data-dir or set SPLITPOINT_DATA")
    aliases = ("evaluation", "test") if split == "evaluation" else (split,)
    for root in (given / name, given):
        for alias in aliases:
            for candidate in (root / f"{alias}.parquet", root / alias):
                if candidate.exists():
                    return candidate
    if split == "calibration":
        return None
    raise DataError(f"there is no {name}/{split}.parquet nor a folder {name}/{split} in {given}")


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
    """A named set's split, a parquet file (`image` bytes, `label`) or an image folder.

    card      images are resized and converted to its size and channels, labels checked against its classes
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
        data = Dataset(images, labels, tuple("0123456789"))
        return Dataset(fit_images(data.images, card), data.labels, data.classes) if card else data
    if name in NAMED:
        return _named(name, split, card, Path(data_dir) if data_dir else None)
    if not path.exists():
        if len(path.parts) == 1 and not path.suffix:
            raise UsageError(
                f"unknown data set '{name}'; {did_you_mean(name, NAMED)}, or give a path that exists"
            )
        raise DataError(f"there is no data at {path}")
    return _read(path, card)
