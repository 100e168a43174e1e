"""Choosing thresholds on the calibration split, for a target accuracy or a cost.

Nothing here is an error probability: scores are turned into answers by what they did on calibration samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..models.macs import head_macs
from ..models.profile import Profile
from .decision import NEVER, Decision
from .early_exit import stops
from .outcomes import walk

__all__ = [
    "Offloading",
    "Point",
    "calibrated_exits",
    "candidates",
    "choose",
    "offloading",
    "repaired",
    "sweep",
]

Array = NDArray[np.float64]


class Point(NamedTuple):
    """A threshold, and the accuracy and mean cost of a request under it."""

    threshold: float
    accuracy: float
    cost: float


def candidates(scores: NDArray[np.floating], count: int = 64) -> Array:
    """At most count + 2 thresholds that divide these scores into equal parts, rising; -inf and inf are the ends.

    Each lies half way between neighbouring values, so that rounding moves no sample across it.
    """
    values = np.unique(scores[np.isfinite(scores)]).astype(np.float64)
    between = (values[1:] + values[:-1]) / 2 if len(values) > 1 else np.zeros(0)
    if len(between) > count:
        shares = np.searchsorted(np.sort(scores, axis=None), between) / scores.size
        wanted = np.searchsorted(shares, np.linspace(0, 1, count + 2)[1:-1])
        between = between[np.unique(np.minimum(wanted, len(between) - 1))]
    return np.concatenate([[-np.inf], between, [np.inf]])


def sweep(
    stop: Callable[[float], NDArray[np.int64]],
    thresholds: Iterable[float],
    right: NDArray[np.bool_],
    cost: NDArray[np.number],
) -> list[Point]:
    """A Point for each threshold; right (S, G): whether an answer there is right; cost (S, G) or (G,) of stopping."""
    rows = np.arange(len(right))
    costs = np.broadcast_to(cost, right.shape)
    found = []
    for threshold in thresholds:
        gate = stop(float(threshold))
        accuracy, spent = float(right[rows, gate].mean()), float(costs[rows, gate].mean())
        found.append(Point(float(threshold), accuracy, spent))
    return found


def choose(points: Iterable[Point], *, accuracy: float | None = None, cost: float | None = None) -> Point:
    """The cheapest point of at least this accuracy, or the most accurate one of at most this cost.

    UsageError unless one of the two is given, or where no point reaches it.
    """
    if (accuracy is None) == (cost is None):
        raise UsageError("give a target accuracy or a cost, one of the two")
    points = list(points)
    if accuracy is not None:
        fit = [point for point in points if point.accuracy >= accuracy]
        if not fit:
            best = max(point.accuracy for point in points)
            raise UsageError(f"no threshold reaches accuracy {accuracy:g}; the best has {best:.4f}")
        return min(fit, key=lambda point: (point.cost, -point.accuracy))
    fit = [point for point in points if point.cost <= float(cost or 0.0)]
    if not fit:
        least = min(point.cost for point in points)
        raise UsageError(f"no threshold costs at most {cost:g}; the cheapest costs {least:g}")
    return max(fit, key=lambda point: (point.accuracy, -point.cost))


def repaired(scores: Array, cost: NDArray[np.number], thresholds: Array, budget: float) -> Array:
    """Thresholds (G,), lowered by one common amount as far as a mean cost within the budget needs.

    The budget repair of a cumulative-confidence gate (NACHOS, arXiv 2401.13330; that one amount serves all exits is
    ours). scores (S, G); cost (G,) of stopping at each exit. UsageError where even the first exit costs more.
    """
    if float(cost[0]) > budget:
        raise UsageError(f"the first exit costs {float(cost[0]):g}, more than the budget {budget:g}")

    def spent(shift: float) -> float:
        return float(cost[stops(scores, thresholds - shift)].mean())

    low, high = 0.0, float(np.max(thresholds[np.isfinite(thresholds)], initial=0.0) - scores.min()) + 1.0
    if spent(low) <= budget:
        return thresholds
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) <= budget else (middle, high)
    return thresholds - high


class Offloading(NamedTuple):
    """What a Decision's rule does with each sample of a Profile, (S,) each.

    right        whether the answer is right
    device_macs  executed on the device, exits on the way included
    nbytes       of the request, 0 where the device answers
    """

    right: NDArray[np.bool_]
    device_macs: NDArray[np.int64]
    nbytes: NDArray[np.int64]


def offloading(profile: Profile, decision: Decision) -> Offloading:
    """Look a static Decision up in a Profile, for a server that is always there.

    GridError where a cut that the rule may send from was not measured.
    """
    card = profile.card
    outcomes = walk(profile, decision)
    spent = np.array([head_macs(card, cut, keep=decision.keep) for cut in range(card.depth + 1)])
    return Offloading(outcomes.prediction == profile.labels, spent[outcomes.cut], outcomes.nbytes)


def calibrated_exits(
    profile: Profile,
    decision: Decision,
    *,
    accuracy: float | None = None,
    cost: float | None = None,
    macs_per_byte: float = 0.0,
    count: int = 16,
) -> Decision:
    """The Decision with (exit_margin, offload_slope) chosen on the calibration profile.

    cost of a request: its MACs on the device plus macs_per_byte for each byte sent. One of `accuracy` (the cheapest
    that reaches it) and `cost` (the most accurate within it) is given. count: values tried of each. UsageError for
    another profile, or where nothing reaches the target.
    """
    profile.require("calibration")
    _, margins = profile.head(decision.keep)
    exit_margins = np.clip(candidates(margins, count), 0.0, NEVER)
    slopes = np.clip(candidates(np.diff(margins, axis=1), count), -NEVER, NEVER)
    tried: list[Decision] = []
    points: list[Point] = []
    for exit_margin, slope in product(exit_margins.tolist(), slopes.tolist()):
        one = replace(decision, exit_margin=exit_margin, offload_slope=slope)
        found = offloading(profile, one)
        spent = float((found.device_macs + macs_per_byte * found.nbytes).mean())
        points.append(Point(len(tried), float(found.right.mean()), spent))
        tried.append(one)
    return tried[int(choose(points, accuracy=accuracy, cost=cost).threshold)]
