"""One server process of learners in virtual time: one compute thread, batches of equal learner and gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..policies.schedule import BatchQueue
from ..policies.service_time import Pace, segment_time
from .sections import Fault
from .timeline import Timeline
from .virtual_faults import Life

__all__ = ["GateTask", "LearnerServer"]


class GateTask:
    """Gates `gate`..`last` of one learner for one request; `cancelled` once nobody wants them any more."""

    __slots__ = ("cancelled", "gate", "last", "learner", "subject")

    def __init__(self, subject: Any, learner: int, first: int, last: int) -> None:
        self.subject, self.learner, self.gate, self.last = subject, learner, first, last
        self.cancelled = False


class LearnerServer:
    """reached(now_s, task) is called at each gate, lost(now_s, task) for tasks in a killed process's hands, and
    refused(now_s, task) for one that finds `max_pending` others waiting or in work.

    A cancelled task stops at the next gate: in the queue it is not begun any more.
    """

    def __init__(
        self,
        timeline: Timeline,
        gate_macs: Sequence[Sequence[int]],
        pace: Pace,
        max_batch: int,
        max_pending: int,
        faults: Sequence[Fault],
        reached: Callable[[float, GateTask], None],
        lost: Callable[[float, GateTask], None],
        refused: Callable[[float, GateTask], None],
    ) -> None:
        self.life = Life(timeline, faults, self._stopped, self._thawed)
        self._timeline = timeline
        self._gate_macs = gate_macs
        self._pace = pace
        self._max_batch = max_batch
        self._max_pending = max_pending
        self._reached = reached
        self._lost = lost
        self._refused = refused
        self._queue: BatchQueue[GateTask] = BatchQueue()
        self._in_work: list[GateTask] = []
        self._busy = False

    def receive(self, now_s: float, task: GateTask) -> None:
        if not self.life.reachable:
            self._lost(now_s, task)
            return
        if len(self._queue) + len(self._in_work) >= self._max_pending:
            self._refused(now_s, task)
            return
        self._queue.push((task.learner, task.gate), task)
        if not self._busy and not self.life.frozen:
            self._work(now_s)

    def _work(self, now_s: float) -> None:
        batch = self._queue.take(self._max_batch, lambda task: task.cancelled)
        self._busy = bool(batch)
        if batch:
            self._in_work = batch
            macs = self._gate_macs[batch[0].learner][batch[0].gate]
            duration_s = segment_time(self._pace, len(batch), macs)
            self._timeline.after(duration_s, self._finish, self.life.number)

    def _finish(self, now_s: float, life: int) -> None:
        if life != self.life.number:
            return
        if self.life.frozen:
            self.life.once_thawed(self._finish, life)
            return
        batch, self._in_work = self._in_work, []
        for task in batch:
            self._reached(now_s, task)
            if task.gate < task.last and not task.cancelled:
                task.gate += 1
                self._queue.push((task.learner, task.gate), task)
        self._work(now_s)

    def _thawed(self, now_s: float) -> None:
        if not self._busy:
            self._work(now_s)

    def _stopped(self, now_s: float, killed: bool) -> None:
        if not killed:
            return
        dead = [*self._in_work, *_all(self._queue)]
        self._in_work, self._busy = [], False
        for task in dead:
            self._lost(now_s, task)


def _all(queue: BatchQueue[GateTask]) -> list[GateTask]:
    found: list[GateTask] = []
    while waiting := queue.take(len(queue)):
        found += waiting
    return found
