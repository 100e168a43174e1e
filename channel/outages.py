"""Outage windows: spans of time in which the link is down and swallows what is on it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Protocol

from ..seeding import generator

__all__ = ["BurstOutages", "ListedOutages", "Outages"]

INFINITY = float("inf")
_BLOCK = 16


class Outages(Protocol):
    def window(self, t: float) -> tuple[float, float]:
        """(begin_s, end_s) of the first window that ends after `t`; infinite where there is none."""
        ...


class ListedOutages:
    """Windows [begin_s, end_s) given one by one, sorted and not overlapping."""

    def __init__(self, windows: Iterable[tuple[float, float]]) -> None:
        self._begins, self._ends = [], []
        for begin, end in windows:
            self._begins.append(float(begin))
            self._ends.append(float(end))

    def window(self, t: float) -> tuple[float, float]:
        place = bisect_right(self._ends, t)
        if place == len(self._ends):
            return INFINITY, INFINITY
        return self._begins[place], self._ends[place]


class BurstOutages:
    """Alternating up and down times, both exponential, stationary from t = 0.

    Keyed by (seed, "outages", device). The list of windows grows as later times are asked for; it does not
    depend on the order of asking.
    """

    def __init__(self, mean_up_s: float, mean_down_s: float, seed: int, device: int) -> None:
        self._means = mean_up_s, mean_down_s
        self._key = seed, "outages", device
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._blocks = 0

    def _extend(self) -> None:
        mean_up_s, mean_down_s = self._means
        draws = generator(*self._key, self._blocks)
        t = self._ends[-1] if self._ends else 0.0
        ups = draws.exponential(mean_up_s, _BLOCK).tolist()
        downs = draws.exponential(mean_down_s, _BLOCK).tolist()
        if not self._blocks and draws.random() < mean_down_s / (mean_up_s + mean_down_s):
            ups[0] = 0.0
        for up, down in zip(ups, downs, strict=True):
            self._begins.append(t + up)
            t += up + down
            self._ends.append(t)
        self._blocks += 1

    def window(self, t: float) -> tuple[float, float]:
        while not self._ends or self._ends[-1] <= t:
            self._extend()
        place = bisect_right(self._ends, t)
        return self._begins[place], self._ends[place]
