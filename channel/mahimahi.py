"""Mahimahi traces: a recorded cellular link as the capacity of a medium (Netravali et al., ATC 2015).

Each line of a trace is a time in ms at which 1 500 bytes may be sent; the last line is also the period after
which it repeats. All devices on the medium fill the opportunities bytewise, in order: what one message leaves
of an opportunity goes to the next one if it is already waiting. Opportunities that nobody waits for are lost.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import lru_cache
from math import ceil
from pathlib import Path as FilePath

from ..errors import DataError, UsageError
from .link import Link
from .medium import Completion, Transfer
from .outages import INFINITY

__all__ = ["OPPORTUNITY_BYTES", "WINDOW_S", "MahimahiMedium", "read_opportunities"]

OPPORTUNITY_BYTES = 1500
WINDOW_S = 1.0


@lru_cache(maxsize=8)
def read_opportunities(path: str) -> tuple[float, ...]:
    """The times of the opportunities in seconds, in order. Raises DataError that names file and line."""
    times: list[float] = []
    try:
        with FilePath(path).open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                if not re.fullmatch(r"[0-9]{1,15}", line.strip()):
                    raise DataError(
                        f"{path}, line {number}: expected a time in ms, got {line.strip()[:40]!r}"
                    )
                times.append(int(line) / 1000.0)
                if len(times) > 1 and times[-1] < times[-2]:
                    raise DataError(f"{path}, line {number}: times must not fall")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the Mahimahi trace {path}: {error}") from error
    if not times or times[-1] <= 0.0:
        raise DataError(f"{path} has no opportunity after 0 ms")
    return tuple(times)


class MahimahiMedium:
    """First in first out over the opportunities of a trace.

    scale   bytes an opportunity carries, over 1 500: the scenario's `rate_scale` for traces
    Links on it add their losses (more bytes), outages and round trip; their own rate plays no part. Airtime
    is the time from the message's turn to its last byte. Symbols cannot be sent on it: UsageError.
    """

    def __init__(self, times_s: tuple[float, ...], scale: float = 1.0) -> None:
        self._times = times_s
        self._period_s = times_s[-1]
        self._bytes = OPPORTUNITY_BYTES * scale
        self._free_s = 0.0
        self._current = -1  # the opportunity that the last message ended in
        self._left = 0.0  # bytes left in it

    def _time(self, opportunity: int) -> float:
        rounds, place = divmod(opportunity, len(self._times))
        return rounds * self._period_s + self._times[place]

    def _first(self, t: float) -> int:
        """The first opportunity at or after `t`."""
        rounds = int(t / self._period_s)
        opportunity = rounds * len(self._times) + bisect_left(self._times, t - rounds * self._period_s)
        # The last opportunity of a round and the edges of floats: step to the exact place.
        while opportunity > 0 and self._time(opportunity - 1) >= t:
            opportunity -= 1
        while self._time(opportunity) < t:
            opportunity += 1
        return opportunity

    def submit(
        self, now: float, link: Link, nbytes: int, key: int, tag: object = None, symbols: int = 0
    ) -> Transfer:
        if symbols:
            raise UsageError("a Mahimahi medium carries bytes, not symbols")
        start = max(now, self._free_s)
        count, bits = link.packets(nbytes, start, key)
        size = count * bits / 8.0
        if now > self._free_s or self._current < 0:
            opportunity, left = self._first(now), self._bytes
        else:
            opportunity, left = self._current, self._left
        whole = max(0, ceil((size - left) / self._bytes - 1e-9))
        done = self._time(opportunity + whole)
        cut_off = link.cut_off(start)
        if cut_off < done or cut_off <= start:
            # The bytes that were on their way are lost with the message.
            self._free_s, self._current, self._left = cut_off, self._first(cut_off), self._bytes
            return Transfer(start, INFINITY, cut_off - start)
        self._current, self._left = opportunity + whole, left + whole * self._bytes - size
        self._free_s = done
        return Transfer(start, done, done - start)

    def next_completion(self) -> float:
        return INFINITY

    def pop_completed(self, now: float) -> list[Completion]:
        return []

    def rate_bps(self, t: float) -> float:
        """Mean over the second that ends at `t`, as a modem would estimate it; at least one opportunity."""
        begin = max(0.0, t - WINDOW_S)
        count = self._first(begin + WINDOW_S) - self._first(begin)
        return max(count, 1) * self._bytes * 8.0 / WINDOW_S
