"""The Decisions of an earlier run, for policies that replay them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from ..errors import DataError, UsageError
from ..policies.decision import Decision
from .policy_config import ReplayPolicy
from .records import Table

__all__ = ["recorded_decisions"]


def recorded_decisions(
    tables: Mapping[str, Table], config: ReplayPolicy, device: int, requests: int
) -> list[Decision]:
    """Of one device, request by request; `tables` are those of the run, by policy.

    UsageError where the run has not that policy, or not as many requests; DataError where a field of the Decisions is
    missing, as in the file of an older version.
    """
    name = config.policy or next(iter(tables))
    if name not in tables:
        raise UsageError(f"{config.path} has no policy '{name}', only {', '.join(tables)}")
    if config.policy is None and len(tables) > 1:
        raise UsageError(f"{config.path} has several policies: say which of {', '.join(tables)}")
    decisions = _decisions(tables[name], device, config)
    if len(decisions) != requests:
        raise UsageError(
            f"{config.path} has {len(decisions)} decisions for device {device}, "
            f"and the scenario {requests} requests"
        )
    return decisions


def _decisions(columns: Table, device: int, config: ReplayPolicy) -> list[Decision]:
    names = [field.name for field in fields(Decision)]
    if missing := [name for name in ("device", *names) if name not in columns]:
        raise DataError(f"{config.path} has no column '{missing[0]}': it is of another version; run it anew")
    mine = columns["device"] == device
    rows = zip(*(np.asarray(columns[name])[mine].tolist() for name in names), strict=True)
    known: dict[tuple[float, ...], Decision] = {}
    return [known.get(row) or known.setdefault(row, Decision(*row)) for row in rows]
