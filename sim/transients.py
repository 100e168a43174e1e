"""What happens after a change: how long until a policy is itself again, and what it overspends meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..policies.budgets import Budgets
from .metrics import request_costs
from .records import Table

__all__ = ["transients"]

_WINDOW = 25
"""Requests of the running mean."""

_WITHIN = 0.05
"""Utility: how near to its later level a policy must come to count as recovered."""

_TRANSIENT_S = 10.0


def transients(
    columns: Table, values: np.ndarray, changes_s: Sequence[float], budgets: Budgets
) -> list[dict[str, Any]]:
    """One object a change, in the order of time.

    values     utility of every request, (requests,)
    level      mean utility of the second half of the time until the next change, or the end: what is recovered to
    recovery_s from the change to the middle of the first 25 requests in a row, by arrival over all devices, whose mean
               utility is at most 0.05 below that level; None where this never happens
    loss       the mean utility of the first 10 s (of all the time, where that is shorter) less the level
    over       by what part the mean cost of these is above each budget, at least 0
    Changes without 50 requests until the next one are left out.
    """
    order = np.argsort(columns["arrival_s"], kind="stable")
    arrivals, values = columns["arrival_s"][order], values[order]
    costs = request_costs(columns, budgets)[:, order]
    found = []
    for change_s, end_s in pairwise((*changes_s, np.inf)):
        first, last = np.searchsorted(arrivals, (change_s, end_s))
        if last - first < 2 * _WINDOW:
            continue
        segment, times = values[first:last], arrivals[first:last]
        level = float(segment[times >= 0.5 * (times[0] + times[-1])].mean())
        means = np.convolve(segment, np.full(_WINDOW, 1.0 / _WINDOW), "valid")
        again = np.flatnonzero(means >= level - _WITHIN)
        early = times < change_s + _TRANSIENT_S
        spent = costs[:, first:last][:, early].mean(axis=1) / budgets.limits
        found.append(
            {
                "at_s": float(change_s),
                "level": level,
                "recovery_s": float(times[again[0] + _WINDOW // 2] - change_s) if len(again) else None,
                "loss": float(segment[early].mean()) - level,
                "over": dict(zip(budgets.active, np.maximum(0.0, spent - 1.0).tolist(), strict=True)),
            }
        )
    return found
