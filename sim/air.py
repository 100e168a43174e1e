"""A medium in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..channel.medium import Medium, Transfer
from .call import Call
from .timeline import Timeline

__all__ = ["Air"]


class Air:
    """One medium, pumped by the clock: `settled(now_s, call, transfer)` tells how each transfer ends."""

    def __init__(
        self, timeline: Timeline, medium: Medium, settled: Callable[[float, Call, Transfer], None]
    ) -> None:
        self._timeline = timeline
        self._medium = medium
        self._settled = settled
        self._wake = 0

    def send(self, now_s: float, call: Call, nbytes: int, key: int, symbols: int = 0) -> None:
        transfer = self._medium.submit(now_s, call.device.link, nbytes, key, call, symbols)
        if transfer is not None:
            self._settled(now_s, call, transfer)
        else:
            self._sleep(now_s)

    def _sleep(self, now_s: float) -> None:
        # What was submitted since may have moved the next completion: only the newest wake counts.
        self._wake += 1
        next_s = self._medium.next_completion()
        if next_s < math.inf:
            self._timeline.after(next_s - now_s, self._pump, self._wake)

    def _pump(self, now_s: float, wake: int) -> None:
        if wake != self._wake:
            return
        for completion in self._medium.pop_completed(now_s):
            call = completion.tag
            assert isinstance(call, Call)
            self._settled(now_s, call, completion.transfer)
        self._sleep(now_s)
