"""A process's life in virtual time: the scenario's faults kill it, let it drain, or freeze it, and end again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .sections import Fault
from .timeline import Timeline

__all__ = ["Life"]


class Life:
    """What the faults of one process make of it.

    stopped(now_s, killed)  called at a kill and at the beginning of a drain: what is in hand is lost, or finished
    thawed(now_s)           called at the end of a freeze, before what waited for it goes on

    `reachable`: it takes something new. `frozen`: it hangs, and goes on later where it was. `number` grows with each
    kill: work that was begun in an earlier life is done for nothing. A kill ends a freeze, and what is dead cannot
    be frozen.
    """

    __slots__ = (
        "_absences",
        "_freezes",
        "_kills",
        "_stopped",
        "_thawed",
        "_timeline",
        "_waiting",
        "frozen",
        "number",
        "reachable",
    )

    def __init__(
        self,
        timeline: Timeline,
        faults: Sequence[Fault],
        stopped: Callable[[float, bool], None],
        thawed: Callable[[float], None] | None = None,
    ) -> None:
        self.reachable = True
        self.frozen = False
        self.number = 0
        self._timeline = timeline
        self._stopped = stopped
        self._thawed = thawed
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        # Faults may overlap: each ends for itself.
        self._freezes = self._absences = self._kills = 0
        for fault in faults:
            timeline.process(self._fault(fault))

    def once_thawed(self, act: Callable[..., None], *subjects: Any) -> None:
        """While frozen: call act(now_s, *subjects) when it goes on, or is killed, in the order of these calls."""
        self._waiting.append((act, subjects))

    def _fault(self, fault: Fault) -> Any:
        timeline = self._timeline
        yield timeline.timeout(fault.at_s)
        if fault.kind == "freeze":
            if self._kills:
                return
            life = self.number
            self._freezes += 1
            self.frozen = True
            yield timeline.timeout(fault.for_s)
            if life == self.number:
                self._freezes -= 1
                if not self._freezes:
                    self._thaw(timeline.now)
            return
        killed = fault.kind == "kill"
        self._absences += 1
        self._kills += killed
        self.reachable = False
        self.number += killed
        self._stopped(timeline.now, killed)
        if killed and self.frozen:
            self._freezes = 0
            self._thaw(timeline.now)
        yield timeline.timeout(fault.for_s)
        self._absences -= 1
        self._kills -= killed
        self.reachable = not self._absences

    def _thaw(self, now_s: float) -> None:
        self.frozen = False
        waiting, self._waiting = self._waiting, []
        self._timeline.after(0.0, _go_on, waiting)
        if self._thawed is not None:
            self._thawed(now_s)


def _go_on(now_s: float, waiting: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    for act, subjects in waiting:
        act(now_s, *subjects)
