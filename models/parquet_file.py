"""Labelled images in parquet files, as Hugging Face `datasets` writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MissingExtra
from .card import ModelCard
from .images import read_image

__all__ = ["Rows", "class_metadata", "class_names", "read_rows"]

_LARGEST = 2**63 - 1


class Rows(NamedTuple):
    """images, each uint8 (H, W, C); their labels; the names of labels 0, 1, ..., () where the file has none."""

    images: list[NDArray[np.uint8]]
    labels: list[int]
    names: tuple[str, ...]


def _parquet_files(path: Path) -> list[Path]:
    """The file, or all that a pattern such as `train-*.parquet` means, in order of names.

    DataError where there is none, or where one of several parts (`-00000-of-00002`) is missing.
    """
    if path.exists():
        return [path]
    files = sorted(path.parent.glob(path.name)) if "*" in path.name else []
    if not files:
        raise DataError(f"there is no data at {path}")
    of = {int(found[1]) for file in files if (found := re.search(r"-\d+-of-(\d+)\.parquet$", file.name))}
    if of and of != {len(files)}:
        raise DataError(f"{path} means {len(files)} files, by their names parts of {max(of)}")
    return files


def class_metadata(names: Sequence[str]) -> dict[str, str]:
    """Metadata of a schema whose column `label` has these names, as `datasets` keeps them; {} without any."""
    if not names:
        return {}
    label = {"names": list(names), "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": label}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def class_names(schema: Any, column: str) -> tuple[str, ...]:
    """Names that `datasets` keeps in the schema's metadata for the labels of a column, if any."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[column]["names"])
    except (TypeError, KeyError, ValueError):
        return ()


def _read_file(path: Path, card: ModelCard | None) -> Rows:
    try:
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException
    except ImportError as error:
        raise MissingExtra("reading parquet files", "sim") from error
    try:
        # Without partitioning: a folder named like `label=3` is no column.
        table = parquet.read_table(path, partitioning=None)
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
        if isinstance(label, bool) or not isinstance(label, int) or label > _LARGEST:
            raise DataError(f"{path}: row {row} of column 'label' is {label!r}, not an integer")
    return Rows(images, labels, class_names(table.schema, "label"))


def read_rows(path: Path, card: ModelCard | None) -> Rows:
    """All rows of the file or files that `path` means, images of the card's size and channels.

    DataError, naming file and row, for what is not an image or label; MissingExtra without pyarrow.
    """
    parts = [_read_file(file, card) for file in _parquet_files(path)]
    if any(part.names != parts[0].names for part in parts):
        raise DataError(f"{path}: the files name their labels differently")
    images = [image for part in parts for image in part.images]
    return Rows(images, [label for part in parts for label in part.labels], parts[0].names)
