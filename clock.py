"""Seconds since the epoch of a run, on a clock that does not jump."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Clock"]

_FINE_S = 0.002


class Clock:
    """epoch: the run's time 0 by `time.time()`; None is now. Converted once, so that clock changes do not matter."""

    def __init__(self, epoch: float | None = None) -> None:
        self._zero = time.monotonic() + (0.0 if epoch is None else epoch - time.time())

    def now(self) -> float:
        return time.monotonic() - self._zero

    async def until(self, moment_s: float) -> None:
        """Return at `moment_s`, within a fraction of a millisecond."""
        left_s = moment_s - self.now()
        if left_s > _FINE_S:
            await asyncio.sleep(left_s - _FINE_S)
        while (left_s := moment_s - self.now()) > 0:
            # The event loop's timers tick in milliseconds: the rest is short sleeps that still let others run.
            await asyncio.sleep(0 if left_s < 0.0005 else 0.0003)
