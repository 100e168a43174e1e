"""Gilbert-Elliott: a two-state Markov chain of good and bad times (Gilbert 1960, Elliott 1963).

The chain is coupled to one keyed uniform draw a slot. Where both states would follow the draw to the same
next state, the past is forgotten; looking back for the last such draw gives the exact stationary chain at any
slot without running it from the start (coupling from the past, Propp and Wilson 1996).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..seeding import generator
from .path import CHUNK, Samples

__all__ = ["GilbertElliottPath"]


class GilbertElliottPath:
    """Constant SNR and loss in each of two states, whose durations are geometric with the given means.

    Stationary share of bad time: mean_bad_s / (mean_good_s + mean_bad_s). Keyed by (seed, "gilbert-elliott",
    device). Both means are at least slot_s, and 1/mean_good_s + 1/mean_bad_s at most 1/slot_s.
    """

    has_loss = True

    def __init__(
        self,
        mean_good_s: float,
        mean_bad_s: float,
        good: tuple[float, float],
        bad: tuple[float, float],
        slot_s: float,
        seed: int,
        device: int,
    ) -> None:
        """`good` and `bad` are (snr_db, loss) of the states."""
        self._to_bad = slot_s / mean_good_s
        self._to_good = slot_s / mean_bad_s
        self._snr_db, self._loss = np.array([good, bad], dtype=float).T
        self._key = seed, "gilbert-elliott", device
        self._last: dict[int, bool] = {}

    def _forced(self, chunk: int) -> NDArray[np.int8]:
        """(CHUNK,) 1 where the draw forces the bad state, 0 the good one, -1 where the state stays."""
        uniform = generator(*self._key, chunk + 1).random(CHUNK)
        return np.where(uniform < self._to_bad, 1, np.where(uniform >= 1.0 - self._to_good, 0, -1)).astype(
            np.int8
        )

    def _before(self, chunk: int) -> bool:
        """Whether the slot before `chunk` is bad."""
        walk = chunk - 1
        while walk >= 0 and walk not in self._last:
            forced = self._forced(walk)
            known = np.flatnonzero(forced >= 0)
            if known.size:
                self._last[walk] = bool(forced[known[-1]])
                break
            walk -= 1
        if walk >= 0:
            return self._last[walk]
        return bool(generator(*self._key, 0).random() < self._to_bad / (self._to_bad + self._to_good))

    def bad(self, chunk: int) -> NDArray[np.bool_]:
        """(CHUNK,) whether each slot of `chunk` is bad."""
        forced = self._forced(chunk)
        latest = np.maximum.accumulate(np.where(forced >= 0, np.arange(CHUNK), -1))
        states = np.where(latest >= 0, forced[np.maximum(latest, 0)] == 1, self._before(chunk))
        self._last[chunk] = bool(states[-1])
        return states

    def draw(self, chunk: int) -> Samples:
        bad = self.bad(chunk).astype(np.intp)
        return Samples(self._snr_db[bad], self._loss[bad])
