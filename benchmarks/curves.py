"""Accuracy against cost along a threshold, chosen on the calibration split and reported on the evaluation split.

A method is a curve of operating points. Between neighbouring ones it may mix at random, so the best that a method can
do at a cost is the upper concave hull of its points on the calibration split; figures are of the evaluation split under
the same mixture. All methods are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from splitpoint.seeding import generator

SPLITS = ("calibration", "evaluation")


@dataclass(frozen=True)
class Answers:
    """One split's answers: right (S, G) at each gate, and what stopping there costs, metric -> (S, G)."""

    right: np.ndarray
    costs: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Curve:
    """A method: its thresholds, and the gate (S,) at which requests of a split end under one.

    stop  split, threshold -> gates (S,)
    """

    name: str
    thresholds: np.ndarray
    answers: Mapping[str, Answers]
    stop: Callable[[str, float], np.ndarray]
    kind: str = ""
    _gates: dict[tuple[str, int], np.ndarray] = field(default_factory=dict, repr=False)
    _means: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    _hulls: dict[str, list[int]] = field(default_factory=dict, repr=False)

    def _at(self, split: str, place: int, values: np.ndarray) -> np.ndarray:
        gates = self._gates.get((split, place))
        if gates is None:
            gates = self.stop(split, float(self.thresholds[place])).astype(np.int8)
            self._gates[split, place] = gates
        return values[np.arange(len(gates)), gates]

    def right(self, split: str, place: int) -> np.ndarray:
        """Whether each sample is answered rightly at a threshold, (S,)."""
        return self._at(split, place, self.answers[split].right)

    def cost(self, split: str, place: int, metric: str) -> np.ndarray:
        """What each sample costs at a threshold, (S,)."""
        return self._at(split, place, self.answers[split].costs[metric])

    @cached_property
    def accuracy(self) -> np.ndarray:
        """On the calibration split, for each threshold."""
        return np.array([self.right("calibration", k).mean() for k in range(len(self.thresholds))])

    def mean_cost(self, metric: str) -> np.ndarray:
        """On the calibration split, for each threshold."""
        if metric not in self._means:
            places = range(len(self.thresholds))
            self._means[metric] = np.array([self.cost("calibration", k, metric).mean() for k in places])
        return self._means[metric]

    def hull(self, metric: str) -> list[int]:
        """Thresholds on the upper concave hull of (cost, accuracy), cheapest first, up to the best accuracy."""
        if metric in self._hulls:
            return self._hulls[metric]
        cost, accuracy = self.mean_cost(metric), self.accuracy
        kept = self._hulls[metric] = []
        for place in np.lexsort((-accuracy, cost)).tolist():
            if kept and accuracy[place] <= accuracy[kept[-1]]:
                continue
            while len(kept) > 1:
                one, two = kept[-2], kept[-1]
                rise = (accuracy[two] - accuracy[one]) * (cost[place] - cost[one])
                if rise > (accuracy[place] - accuracy[one]) * (cost[two] - cost[one]):
                    break
                kept.pop()
            kept.append(place)
        return kept


@dataclass(frozen=True)
class Mix:
    """A share of requests under one threshold of a curve, the rest under another."""

    curve: Curve
    low: int
    high: int
    share: float

    def right(self, split: str = "evaluation") -> np.ndarray:
        """The probability that each sample is answered rightly, (S,)."""
        low, high = self.curve.right(split, self.low), self.curve.right(split, self.high)
        return (1 - self.share) * low + self.share * high

    def cost(self, metric: str, split: str = "evaluation") -> np.ndarray:
        """Expected cost of each sample, (S,)."""
        low, high = (self.curve.cost(split, place, metric) for place in (self.low, self.high))
        return (1 - self.share) * low + self.share * high

    def accuracy(self, split: str = "evaluation") -> float:
        return float(self.right(split).mean())


def at_cost(curve: Curve, metric: str, cost: float) -> Mix | None:
    """The curve's best on the calibration split at this mean cost or less; None where it cannot be so cheap."""
    hull = curve.hull(metric)
    costs = curve.mean_cost(metric)[hull]
    if cost < costs[0] * (1 - 1e-9):
        return None
    place = int(np.searchsorted(costs, cost, side="right")) - 1
    if place >= len(hull) - 1 or place < 0:
        end = hull[max(0, min(place, len(hull) - 1))]
        return Mix(curve, end, end, 0.0)
    share = (cost - costs[place]) / (costs[place + 1] - costs[place])
    return Mix(curve, hull[place], hull[place + 1], float(share))


def at_accuracy(curve: Curve, metric: str, accuracy: float) -> Mix | None:
    """The cheapest single threshold of at least this accuracy on the calibration split; None without one."""
    fit = np.flatnonzero(curve.accuracy >= accuracy)
    if not len(fit):
        return None
    best = int(fit[curve.mean_cost(metric)[fit].argmin()])
    return Mix(curve, best, best, 0.0)


def area(curve: Curve, metric: str, low: float, high: float, steps: int = 41) -> np.ndarray:
    """Each evaluation sample's accuracy, (S,), averaged over evenly spaced costs from low to high.

    Their mean is the area under the accuracy-cost curve over the width of the interval.
    """
    found = []
    for cost in np.linspace(low, high, steps):
        mix = at_cost(curve, metric, float(cost))
        found.append(np.zeros(len(curve.right("evaluation", 0))) if mix is None else mix.right())
    return np.mean(found, axis=0)


@cache
def _resampled(samples: int, draws: int, seed: int) -> np.ndarray:
    """How often each sample is drawn, over their number: float32 (draws, samples)."""
    draw = generator(seed, "bootstrap")
    counts = [np.bincount(draw.integers(0, samples, samples), minlength=samples) for _ in range(draws)]
    return np.asarray(counts, dtype=np.float32) / samples


def interval(values: np.ndarray, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values (S,) over samples; pairs stay pairs if values are differences."""
    means = _resampled(len(values), draws, seed) @ values.astype(np.float32)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
