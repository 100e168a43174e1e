"""Media of many copies as arrays, one device on each: `channel/medium.py` and `channel/mahimahi.py` at once."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...channel.config import MahimahiConfig
from ...channel.mahimahi import OPPORTUNITY_BYTES, WINDOW_S, read_opportunities
from .bank import LinkBank

__all__ = ["FifoMedia", "MahimahiMedia", "Media"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Media(Protocol):
    """N media, one a copy."""

    def send(self, where: Mask, now_s: Array, nbytes: Array, uniform: Array) -> tuple[Array, Array]:
        """(airtime, end) in seconds of a message on each medium where `where`; the end is infinite if swallowed."""
        ...

    def rate_bps(self, t: Array) -> Array | float:
        """What the media themselves can carry around t; infinite where only the links limit."""
        ...


class FifoMedia:
    """packets_at_submission: losses are those of the time of submission, as in round robin, not of the turn."""

    def __init__(self, bank: LinkBank, path: NDArray[np.int64], packets_at_submission: bool = False) -> None:
        self._bank, self._path = bank, path
        self._early = packets_at_submission
        self._free_s = np.zeros(len(path))

    def send(self, where: Mask, now_s: Array, nbytes: Array, uniform: Array) -> tuple[Array, Array]:
        start_s = np.maximum(now_s, self._free_s)
        if self._early:
            count, bits = self._bank.packets(nbytes, now_s, self._path, uniform)
            airtime_s = self._bank.air_time(count * bits, start_s, self._path)
        else:
            airtime_s = self._bank.transfer_time(nbytes, start_s, self._path, uniform)
        done_s = start_s + airtime_s
        free_s = done_s
        swallowed = airtime_s == np.inf
        if swallowed.any():
            free_s = np.where(swallowed, self._bank.cut_off(start_s, self._path), done_s)
        np.copyto(self._free_s, free_s, where=where)
        return free_s - start_s, done_s

    def rate_bps(self, t: Array) -> float:
        return np.inf


class MahimahiMedia:
    """Opportunities of one trace, which every copy has for itself, from its own time 0."""

    def __init__(self, config: MahimahiConfig, bank: LinkBank, path: NDArray[np.int64]) -> None:
        self._bank, self._path = bank, path
        self._times = np.array(read_opportunities(config.path))
        self._period_s = float(self._times[-1])
        self._bytes = OPPORTUNITY_BYTES * config.rate_scale
        self._free_s, self._left = np.zeros((2, len(path)))
        self._current = np.full(len(path), -1)

    def _time(self, opportunity: NDArray[np.int64]) -> Array:
        rounds, place = np.divmod(opportunity, len(self._times))
        return rounds * self._period_s + self._times[place]

    def _first(self, t: Array) -> NDArray[np.int64]:
        """The first opportunity at or after t."""
        rounds = (t / self._period_s).astype(np.int64)
        found = rounds * len(self._times) + np.searchsorted(
            self._times, t - rounds * self._period_s, side="left"
        )
        # The edges of floats: step to the exact place.
        while (early := (found > 0) & (self._time(np.maximum(found - 1, 0)) >= t)).any():
            found -= early
        while (late := self._time(found) < t).any():
            found += late
        return found

    def send(self, where: Mask, now_s: Array, nbytes: Array, uniform: Array) -> tuple[Array, Array]:
        now_s = np.where(where, now_s, self._free_s)
        start_s = np.maximum(now_s, self._free_s)
        count, bits = self._bank.packets(nbytes, start_s, self._path, uniform)
        size = count * bits / 8.0
        anew = (now_s > self._free_s) | (self._current < 0)
        opportunity = np.where(anew, self._first(now_s), self._current)
        left = np.where(anew, self._bytes, self._left)
        whole = np.maximum(0, np.ceil((size - left) / self._bytes - 1e-9)).astype(np.int64)
        done_s = self._time(opportunity + whole)
        cut_off_s = self._bank.cut_off(start_s, self._path)
        swallowed = (cut_off_s < done_s) | (cut_off_s <= start_s)
        free_s = np.where(swallowed, cut_off_s, done_s)
        current = np.where(swallowed, self._first(cut_off_s), opportunity + whole)
        left = np.where(swallowed, self._bytes, left + whole * self._bytes - size)
        for field, value in ((self._free_s, free_s), (self._current, current), (self._left, left)):
            np.copyto(field, value, where=where)
        return free_s - start_s, np.where(swallowed, np.inf, done_s)

    def rate_bps(self, t: Array) -> Array:
        begin = np.maximum(0.0, t - WINDOW_S)
        count = self._first(begin + WINDOW_S) - self._first(begin)
        return np.maximum(count, 1) * self._bytes * 8.0 / WINDOW_S
