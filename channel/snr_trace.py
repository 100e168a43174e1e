"""SNR measured in the field, replayed.

Read from parquet (needs pyarrow), CSV with a header line and commas, or npy: (N,) values one a period, or
(N, 2) of time and value.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MissingExtra, did_you_mean
from .path import Samples, middles

__all__ = ["NAME_COLUMN", "TIME_COLUMN", "SnrTrace", "SnrTracePath", "read_traces"]

TIME_COLUMN, NAME_COLUMN = "time_s", "trace"
"""What files need not have; columns of other names, once asked for, they must."""
_LARGEST_DB = 200.0


class SnrTrace:
    """One recording: times (N,) in seconds, rising from 0, and SNR (N,) in dB."""

    def __init__(self, times_s: NDArray[np.float64], snr_db: NDArray[np.float64]) -> None:
        self.times_s = times_s
        self.snr_db = snr_db
        # The last value is held as long as a typical step.
        step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
        self.duration_s = float(times_s[-1]) + step_s

    def at(self, t: NDArray[np.float64], interpolate: bool) -> NDArray[np.float64]:
        """SNR in dB at each of `t`; the recording repeats."""
        t = np.mod(t, self.duration_s)
        if interpolate:
            return np.interp(t, self.times_s, self.snr_db)
        return self.snr_db[np.searchsorted(self.times_s, t, side="right") - 1]


class SnrTracePath:
    """Replays a trace from `start_s` on, `offset_db` added; between its points linear in dB, or held."""

    has_loss = False

    def __init__(
        self, trace: SnrTrace, slot_s: float, start_s: float, offset_db: float, interpolate: bool
    ) -> None:
        self._trace, self._slot_s, self._start_s = trace, slot_s, start_s
        self._offset_db, self._interpolate = offset_db, interpolate

    def draw(self, chunk: int) -> Samples:
        times = self._start_s + middles(chunk, self._slot_s)
        return Samples(self._trace.at(times, self._interpolate) + self._offset_db)


@lru_cache(maxsize=8)
def read_traces(
    path: str, column: str, time_column: str, name_column: str, period_s: float | None
) -> dict[str, SnrTrace]:
    """All recordings in a file, by name; the name is '' where the file has no `name_column`.

    Rows without a value are left out, rows of one time averaged. Without a column `time_s` a row is a
    `period_s`, 1 by itself; not where another column's name says times: those may be milliseconds. Raises DataError
    that names the file, and the row, MissingExtra for parquet without pyarrow.
    """
    file = FilePath(path)
    if not file.is_file():
        raise DataError(f"no such SNR trace: {path}")
    try:
        columns = _columns(file, column)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the SNR trace {path}: {error}") from error
    optional = (name for name in (time_column, name_column) if name not in (TIME_COLUMN, NAME_COLUMN))
    for name in (column, *optional):
        if name not in columns:
            raise DataError(f"{path} has no column '{name}'; {did_you_mean(name, columns)}")
    values = columns[column]
    names = columns.get(name_column, [""] * len(values))
    times = columns.get(time_column)
    meant = [name for name in columns if name.lower().startswith("time")]
    if times is None and period_s is None and meant:
        raise DataError(
            f"{path} has no column '{time_column}': if '{meant[0]}' is in seconds, say so by time_column, "
            "or say how long a row is by period_s"
        )
    row_s = 1.0 if period_s is None else period_s
    points: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    counts: dict[str, int] = defaultdict(int)
    try:
        for row, (name, value) in enumerate(zip(names, values, strict=True)):
            time_s = float(times[row]) if times is not None else counts[name] * row_s
            counts[name] += 1
            if value in (None, ""):
                continue
            if not (math.isfinite(time_s) and abs(float(value)) <= _LARGEST_DB):
                raise ValueError(f"{value} at {time_s:g} s is no SNR of -200 to 200 dB at a time")
            points[str(name)][time_s].append(float(value))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}, row {row + 1}: {error}") from error
    if not points:
        raise DataError(f"{path} has no values in column '{column}'")
    return {name: _trace(series) for name, series in sorted(points.items())}


def _trace(series: dict[float, list[float]]) -> SnrTrace:
    times = np.array(sorted(series))
    snr_db = np.array([sum(series[t]) / len(series[t]) for t in times.tolist()])
    return SnrTrace(times - times[0], snr_db)


def _columns(file: FilePath, column: str) -> dict[str, list[Any]]:
    kind = file.suffix.lower()
    if kind == ".npy":
        # Not np.load, which takes archives too, whatever they are called.
        with file.open("rb") as stream:
            values = np.lib.format.read_array(stream, allow_pickle=False)
        if values.ndim == 1:
            return {column: values.tolist()}
        if values.ndim == 2 and values.shape[1] == 2:
            return {TIME_COLUMN: values[:, 0].tolist(), column: values[:, 1].tolist()}
        raise ValueError(f"shape {values.shape}, expected (N,) or (N, 2)")
    if kind == ".parquet":
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise MissingExtra("a trace in parquet", "sim") from None
        columns: dict[str, list[Any]] = parquet.read_table(file).to_pydict()
        return columns
    # Spreadsheets put a byte order mark before the header.
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, skipinitialspace=True)
        rows = list(reader)
        header = list(reader.fieldnames or ())
    if not header:
        raise ValueError("its first line is empty, where the columns' names belong")
    # Spreadsheets end every line of a narrower table in commas: columns without a name.
    named = [name for name in map(str.strip, header) if name]
    if len(named) == 1 and ("\t" in named[0] or ";" in named[0]):
        raise ValueError("its columns are not separated by commas")
    if len(set(named)) < len(named):
        raise ValueError("two columns have one name")
    for number, row in enumerate(rows, 1):
        if any(row.get(None, ())):
            raise ValueError(f"row {number} has more values than the header has names")
    return {name.strip(): [row[name] for row in rows] for name in header if name.strip()}
