"""One record a request: the columns of requests.parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from ..device.session import Finished
from ..errors import DataError, MissingExtra

__all__ = ["DTYPES", "Record", "Table", "columns_of", "read_requests", "record", "table", "write_requests"]


class Record(NamedTuple):
    """What one request did. Times in seconds on the run's clock, energies in joules.

    queue_s + head_s + ... need not add up to latency_s: codec, RPC, the blocks of those that are merged with it and the
    wait for a lost reply lie between.
    uplink_s, downlink_s: from sending to delivery, waiting for the medium and propagation included;
    airtime_*_s: on the air only. NaN where there was no such thing. channel_uses: complex symbols sent, no bytes.
    votes, asked, quorum_macs: of the quorum that answered (`device.accounting.Trip`), 0 where none did.
    """

    device: int
    request: int
    sample: int
    arrival_s: float
    start_s: float
    done_s: float
    split: int
    keep: float
    dims: int
    bits: int
    symbols: float
    exit_margin: float
    offload_slope: float
    refine_bits: int
    refine_keep: float
    refine_margin: float
    merge: float
    cut: int
    exit: int
    margin: float
    prediction: int
    offloaded: bool
    local: bool
    degraded: bool
    refined: bool
    uplink_bytes: int
    channel_uses: int
    downlink_bytes: int
    votes: int
    asked: int
    quorum_macs: int
    head_s: float
    uplink_s: float
    server_s: float
    downlink_s: float
    airtime_up_s: float
    airtime_down_s: float
    energy_j: float
    snr_estimate_db: float
    rate_estimate_bps: float
    policy_replaced: bool


def record(device: int, request: int, sample: int, finished: Finished) -> Record:
    """The record of one finished request."""
    arrival_s, start_s, answer, trip, cost, observation, replaced = finished
    decision = answer.decision
    # A tuple display is several times cheaper than the constructor; the hot path of the engines is here.
    return tuple.__new__(
        Record,
        (
            device,
            request,
            sample,
            arrival_s,
            start_s,
            answer.done_s,
            decision.split,
            decision.keep,
            decision.dims,
            decision.bits,
            decision.symbols,
            decision.exit_margin,
            decision.offload_slope,
            decision.refine_bits,
            decision.refine_keep,
            decision.refine_margin,
            decision.merge,
            answer.cut,
            answer.exit,
            answer.margin,
            answer.prediction,
            answer.offloaded,
            answer.local,
            answer.degraded,
            answer.refined,
            0 if trip is None else trip.uplink_bytes,
            0 if trip is None else trip.channel_uses,
            0 if trip is None or answer.local else trip.downlink_bytes,
            0 if trip is None else trip.votes,
            0 if trip is None else trip.asked,
            0 if trip is None else trip.quorum_macs,
            cost.head_s,
            math.nan if trip is None else trip.uplink_s,
            math.nan if trip is None else trip.server_s,
            math.nan if trip is None else trip.downlink_s,
            cost.airtime_up_s,
            cost.airtime_down_s,
            cost.energy_j,
            observation.snr_db,
            observation.rate_bps,
            replaced,
        ),
    )


Table = Mapping[str, np.ndarray]
"""Columns of equal length by name."""


def columns_of(records: Iterable[Record]) -> dict[str, np.ndarray]:
    """Records as columns, ordered by (device, request)."""
    # (device, request) comes first and is unique, so the records themselves sort.
    ordered = sorted(records)
    values = zip(*ordered, strict=True) if ordered else [()] * len(DTYPES)
    return {
        name: np.array(column, dtype) for (name, dtype), column in zip(DTYPES.items(), values, strict=True)
    }


def table(columns: Mapping[str, np.ndarray], labels: np.ndarray, deadline_s: float) -> dict[str, np.ndarray]:
    """Columns by field of a Record, and what follows from them: label, correct, latency, late."""
    columns = dict(columns)
    columns["label"] = labels[columns["sample"]] if len(columns["sample"]) else np.empty(0, np.int64)
    columns["correct"] = columns["label"] == columns["prediction"]
    columns["latency_s"] = columns["done_s"] - columns["arrival_s"]
    columns["late"] = columns["latency_s"] > deadline_s
    return columns


DTYPES: dict[str, type] = {
    name: {int: np.int64, float: np.float64, bool: np.bool_}[kind]
    for name, kind in get_type_hints(Record).items()
}


def write_requests(path: Path, tables: Mapping[str, Table], about: Mapping[str, Any]) -> None:
    """Write the tables of all policies to one parquet file; `about` (JSON) goes into its metadata.

    The bytes depend on the content only, so equal runs give equal files.
    """
    arrow, parquet = _pyarrow()
    parts = []
    for policy, columns in tables.items():
        names = arrow.DictionaryArray.from_arrays(
            arrow.array(np.zeros(len(columns["device"]), np.int32)), arrow.array([policy])
        ).cast(arrow.string())
        parts.append(arrow.table({"policy": names, **{k: arrow.array(v) for k, v in columns.items()}}))
    merged = arrow.concat_tables(parts)
    merged = merged.replace_schema_metadata({"splitpoint": json.dumps(about, sort_keys=True)})
    parquet.write_table(merged, path, compression="zstd")


def read_requests(path: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """The tables by policy, and what was said about the run. Raises DataError."""
    arrow, parquet = _pyarrow()
    # A folder would be read as all of its files.
    if not path.is_file():
        raise DataError(f"there is no file {path}: name a run's requests.parquet")
    try:
        merged = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    metadata = merged.schema.metadata or {}
    if b"splitpoint" not in metadata or "policy" not in merged.column_names:
        raise DataError(f"{path} holds no requests of a run")
    policies = np.asarray(merged["policy"].to_pylist())
    columns = {name: merged[name].to_numpy() for name in merged.column_names if name != "policy"}
    tables = {
        str(policy): {name: values[policies == policy] for name, values in columns.items()}
        for policy in dict.fromkeys(policies.tolist())
    }
    return tables, json.loads(metadata[b"splitpoint"])


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("reading and writing requests.parquet", "sim") from None
    return pyarrow, pyarrow.parquet
