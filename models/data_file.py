"""Writes a data set as one parquet file that `load_data` reads: PNG bytes in `image`, `label`, class names."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from ..errors import MissingExtra
from ..whole_file import whole_file
from .data import Dataset
from .parquet_file import class_metadata

__all__ = ["write_parquet"]


def write_parquet(data: Dataset, path: Path) -> Path:
    """Write `data`, whole or not at all; returns `path`. DataError where nothing can be written."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtra("writing parquet files", "sim") from error
    cells = []
    for pixels in data.images:
        buffer = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
        cells.append(buffer.getvalue())
    table = arrow.table({"image": cells, "label": data.labels})
    table = table.replace_schema_metadata(class_metadata(data.classes))
    with whole_file(path, "data", make_folder=False) as partial:
        parquet.write_table(table, partial)
    return path
