"""SimPy's clock with a leaner way to be called."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import simpy
from simpy.core import EmptySchedule
from simpy.events import NORMAL

__all__ = ["Timeline"]


class Timeline(simpy.Environment):
    """A SimPy environment whose queue holds calls: `act(now_s, subject)`, in order of time, then of scheduling.

    SimPy's own events and processes stand in the same queue, as calls that fire them. A Timeout with a callback
    does what `after` does at several times the cost, and the engines spend much of their time here.
    """

    def __init__(self) -> None:
        super().__init__()
        # SimPy's own queue, whose entries are one longer here.
        self._calls: list[Any] = self._queue

    def after(self, delay_s: float, act: Callable[[float, Any], None], subject: Any) -> None:
        """Call `act` in `delay_s` seconds; at once, but after what is due now, where that is not positive."""
        now_s = self._now
        due_s = now_s + delay_s if delay_s > 0.0 else now_s
        heappush(self._calls, (due_s, NORMAL, next(self._eid), act, subject))

    def at(self, due_s: float, act: Callable[[float, Any], None], subject: Any) -> None:
        """Call `act` at `due_s`, which must not have passed."""
        heappush(self._calls, (due_s, NORMAL, next(self._eid), act, subject))

    def clear(self) -> None:
        """Forget what is still to come: `run` ends."""
        self._calls.clear()

    def schedule(self, event: simpy.Event, priority: Any = NORMAL, delay: float = 0) -> None:
        heappush(self._calls, (self._now + delay, priority, next(self._eid), _fire, event))

    def step(self) -> None:
        if not self._calls:
            raise EmptySchedule
        self._now, _, _, act, subject = heappop(self._calls)
        act(self._now, subject)

    def run(self, until: Any = None) -> Any:
        if until is not None:
            return super().run(until)
        calls = self._calls
        while calls:
            self._now, _, _, act, subject = heappop(calls)
            act(self._now, subject)
        return None


def _fire(_: float, event: Any) -> None:
    """What SimPy's own `step` does with an event."""
    callbacks, event.callbacks = event.callbacks, None
    for callback in callbacks:
        callback(event)
    if not event.ok and not event.defused:
        raise event.value
