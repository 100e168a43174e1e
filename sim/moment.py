"""SimPy's leanest event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simpy
from simpy.events import NORMAL

__all__ = ["Moment"]


class Moment(simpy.Event):
    """After `delay_s`, call `act(subject)`. A Timeout with a callback does the same at twice the cost."""

    __slots__ = ("_act", "_subject")

    def __init__(
        self, env: simpy.Environment, delay_s: float, act: Callable[[Any], None], subject: Any
    ) -> None:
        self.env = env
        self.callbacks = [self._happen]
        self._ok = True
        self._value = None
        self._act = act
        self._subject = subject
        env.schedule(self, NORMAL, delay_s if delay_s > 0.0 else 0.0)

    def _happen(self, _: simpy.Event) -> None:
        self._act(self._subject)
