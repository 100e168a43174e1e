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
    """N media, one a copy; times on the bank's clock."""

    def send(
        self, where: Mask, now_s: Array, nbytes: NDArray[np.int64], bits: Array, uniform: Array
    ) -> tuple[Mask, Array, Array]:
        """(whether it arrived, airtime, end) of a message on each medium where `where`; nothing holds elsewhere.

        The end of what was swallowed is when it left the air. All are finite.
        bits: of `nbytes` on the air, if no packet is lost; uniform: the draw of the losses.
        """
        ...

    def rate_bps(self, t: Array) -> Array | None:
        """What the media themselves can carry around t; None where only the links limit."""
        ...


class FifoMedia:
    """packets_at_submission: losses are those of the time of submission, as in round robin, not of the turn."""

    def __init__(self, bank: LinkBank, origin_s: Array, *, packets_at_submission: bool) -> None:
        self._bank = bank
        self._early = packets_at_submission
        self._free_s = origin_s.copy()

    def send(
        self, where: Mask, now_s: Array, nbytes: NDArray[np.int64], bits: Array, uniform: Array
    ) -> tuple[Mask, Array, Array]:
        bank = self._bank
        start_s = np.maximum(now_s, self._free_s)
        if not bank.lossless:
            bits = bank.air_bits(where, nbytes, bits, now_s if self._early else start_s, uniform)
        air_s = bank.air_s(where, bits, start_s)
        end_s = start_s + air_s
        swallowed = bank.swallows(start_s, air_s)
        if np.count_nonzero(swallowed):
            end_s = np.where(swallowed, bank.cut_off(start_s), end_s)
            air_s = end_s - start_s
            np.putmask(self._free_s, where, end_s)
            return where & ~swallowed, air_s, end_s
        np.putmask(self._free_s, where, end_s)
        return where, air_s, end_s

    def rate_bps(self, t: Array) -> None:
        return None


class MahimahiMedia:
    """Opportunities of one trace, which every copy has for itself, from its own path's begin."""

    def __init__(self, config: MahimahiConfig, bank: LinkBank, origin_s: Array) -> None:
        self._bank, self._origin_s = bank, origin_s
        self._times = np.array(read_opportunities(config.path))
        self._period_s = float(self._times[-1])
        self._bytes = OPPORTUNITY_BYTES * config.rate_scale
        self._left = np.zeros(len(origin_s))
        self._free_s = origin_s.copy()
        self._current = np.full(len(origin_s), -1)

    def _time(self, opportunity: NDArray[np.int64]) -> Array:
        rounds, place = np.divmod(opportunity, len(self._times))
        return rounds * self._period_s + self._times[place] + self._origin_s

    def _first(self, t: Array) -> NDArray[np.int64]:
        """The first opportunity at or after t."""
        since_s = t - self._origin_s
        rounds = (since_s / self._period_s).astype(np.int64)
        place = np.searchsorted(self._times, since_s - rounds * self._period_s, side="left")
        found = rounds * len(self._times) + place
        # The edges of floats: step to the exact place.
        while (early := (found > 0) & (self._time(np.maximum(found - 1, 0)) >= t)).any():
            found -= early
        while (late := self._time(found) < t).any():
            found += late
        return found

    def send(
        self, where: Mask, now_s: Array, nbytes: NDArray[np.int64], bits: Array, uniform: Array
    ) -> tuple[Mask, Array, Array]:
        now_s = np.where(where, now_s, self._free_s)
        start_s = np.maximum(now_s, self._free_s)
        size = self._bank.air_bits(where, nbytes, bits, start_s, uniform) / 8.0
        anew = (now_s > self._free_s) | (self._current < 0)
        opportunity = np.where(anew, self._first(now_s), self._current)
        left = np.where(anew, self._bytes, self._left)
        whole = np.maximum(0, np.ceil((size - left) / self._bytes - 1e-9)).astype(np.int64)
        done_s = self._time(opportunity + whole)
        cut_off_s = self._bank.cut_off(start_s)
        swallowed = (cut_off_s < done_s) | (cut_off_s <= start_s)
        current = opportunity + whole
        left = left + whole * self._bytes - size
        if np.count_nonzero(swallowed):
            done_s = np.where(swallowed, cut_off_s, done_s)
            current = np.where(swallowed, self._first(cut_off_s), current)
            left = np.where(swallowed, self._bytes, left)
        for field, value in ((self._free_s, done_s), (self._current, current), (self._left, left)):
            np.copyto(field, value, where=where)
        return where & ~swallowed, done_s - start_s, done_s

    def rate_bps(self, t: Array) -> Array:
        begin = np.maximum(self._origin_s, t - WINDOW_S)
        count = self._first(begin + WINDOW_S) - self._first(begin)
        return np.maximum(count, 1) * self._bytes * 8.0 / WINDOW_S
