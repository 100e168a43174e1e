"""How fast a head is on this machine, measured before the first request."""

from __future__ import annotations

import time

import numpy as np

from .head import Head, advanced

__all__ = ["measured_block_s"]

_ROUNDS = 3, 15
_BUDGET_S = 0.5


def measured_block_s(head: Head) -> tuple[float, ...]:
    """Seconds from the input to every cut at batch 1, the exits on the way included; (depth + 1,), the first 0.

    Medians over 3 to 15 rounds, as many as half a second has room for, after one that warms up.
    """
    card = head.card
    image = np.zeros((*card.image_size, card.channels), np.uint8)
    advanced(head, image, None, card.depth)
    rounds: list[list[float]] = []
    end = time.perf_counter() + _BUDGET_S
    while len(rounds) < _ROUNDS[0] or (len(rounds) < _ROUNDS[1] and time.perf_counter() < end):
        state, begun, times = None, time.perf_counter(), []
        for cut in range(1, card.depth + 1):
            state = advanced(head, image, state, cut)
            times.append(time.perf_counter() - begun)
        rounds.append(times)
    return (0.0, *np.maximum.accumulate(np.median(rounds, axis=0)).tolist())
