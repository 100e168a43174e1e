"""The server in virtual time: the real server's queue, batches and segments, at the scenario's speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

from ..channel.link import REFINEMENT_IDS
from ..codec.refinement import wants_more
from ..models.card import ModelCard
from ..policies.schedule import BatchQueue
from ..policies.service_time import Pace, Segment, segment_time, segments
from ..server.held import HeldRequests
from .backends import Backend
from .call import Call
from .sections import Fault
from .timeline import Timeline
from .virtual_faults import Life

__all__ = ["VirtualServer"]


class _Batch:
    """Calls in work together: at which segment, and in which life of the server they began."""

    __slots__ = ("calls", "index", "life", "steps")

    def __init__(self, calls: list[Call], steps: tuple[Segment, ...], life: int) -> None:
        self.calls = calls
        self.steps = steps
        self.life = life
        self.index = 0


class VirtualServer:
    """One compute thread that takes batches of equal (cut, tokens), segment by segment.

    replied(now_s, call) is called with call.reply set, or None where the queue was full; lost(now_s, call) for
    requests that were in a killed server's hands. A frozen server hangs and later goes on where it was; one that drains
    answers what it has and refuses the rest.
    """

    def __init__(
        self,
        timeline: Timeline,
        backend: Backend,
        card: ModelCard,
        pace: Pace,
        max_batch: int,
        max_pending: int,
        faults: Sequence[Fault],
        replied: Callable[[float, Call], None],
        lost: Callable[[float, Call], None],
    ) -> None:
        self.life = Life(timeline, faults, self._stopped)
        self._faulty = bool(faults)
        self._timeline = timeline
        self._backend = backend
        self._segments = cache(partial(segments, card))
        self._pace = pace
        self._max_batch = max_batch
        self._max_pending = max_pending
        self._replied = replied
        self._lost = lost
        self._queue: BatchQueue[Call] = BatchQueue()
        self._held: HeldRequests[bool] = HeldRequests()
        self._in_work: list[Call] = []
        self._busy = False

    @property
    def load(self) -> int:
        """Requests waiting or in work."""
        return self._queue.size + len(self._in_work)

    def receive(self, now_s: float, call: Call) -> None:
        """A request has arrived."""
        if self.life.frozen:
            # It waits in the socket, and is read when the server goes on.
            self.life.once_thawed(self.receive, call)
        elif not self.life.reachable:
            self._lost(now_s, call)
        elif self.load >= self._max_pending or (call.refines and not self._resumes(now_s, call)):
            self._replied(now_s, call)
        else:
            if self._busy:
                self._queue.push((call.cut, call.upload.tokens), call)
            elif call.answer_by_s > now_s:
                # Nobody waits: what a queue would give back at once need not go through it.
                self._start(now_s, [call])

    def receive_parts(self, now_s: float, parts: Sequence[Call]) -> None:
        """The groups of one merged request have arrived: all are queued before any is begun."""
        if self.life.frozen:
            self.life.once_thawed(self.receive_parts, parts)
        elif not self.life.reachable:
            self._lost(now_s, parts[0])
        elif self.load + len(parts) > self._max_pending:
            self._replied(now_s, parts[0])
        else:
            for part in parts:
                self._queue.push((part.cut, part.upload.tokens), part)
            if not self._busy:
                self._work(now_s)

    def _work(self, now_s: float) -> None:
        batch = self._queue.take(self._max_batch, lambda call: call.answer_by_s <= now_s)
        if batch:
            self._start(now_s, batch)
        else:
            self._busy = False

    def _start(self, now_s: float, batch: list[Call]) -> None:
        self._busy = True
        self._in_work = batch
        cut, tokens = batch[0].cut, batch[0].upload.tokens
        replies = self._backend.serve(
            cut, [call.upload for call in batch], [call.decision.exit_margin for call in batch]
        )
        for call, reply in zip(batch, replies, strict=True):
            call.reply = reply
            decision = call.decision
            if decision.refines and not call.refines and wants_more(reply.margin, decision.refine_margin):
                call.reply = reply._replace(session=call.key)
        self._begin(now_s, _Batch(batch, self._segments(cut, tokens), self.life.number))

    def _begin(self, now_s: float, batch: _Batch) -> None:
        """Start the next segment of a batch, and those behind it at whose end all of its calls go on."""
        calls, steps, index = batch.calls, batch.steps, batch.index
        due_s = now_s + segment_time(self._pace, len(calls), steps[index].macs)
        # A fault may come between any two segments.
        if not self._faulty:
            first = min([call.reply.exit for call in calls])  # type: ignore[union-attr]
            while steps[index].exit < first:
                index += 1
                due_s += segment_time(self._pace, len(calls), steps[index].macs)
            batch.index = index
        self._timeline.at(due_s, self._finish, batch)

    def _finish(self, now_s: float, batch: _Batch) -> None:
        if batch.life != self.life.number:
            return
        if self.life.frozen:
            self.life.once_thawed(self._finish, batch)
            return
        exit = batch.steps[batch.index].exit
        calls = batch.calls
        stay = [call for call in calls if call.reply.exit > exit]  # type: ignore[union-attr]
        if stay:
            batch.calls = self._in_work = stay
            batch.index += 1
            self._begin(now_s, batch)
            if len(stay) < len(calls):
                for call in calls:
                    if call.reply.exit <= exit:  # type: ignore[union-attr]
                        self._leave(now_s, call)
            return
        self._in_work = []
        for call in calls:
            self._leave(now_s, call)
        if self._queue:
            self._work(now_s)
        else:
            self._busy = False

    def _resumes(self, now_s: float, call: Call) -> bool:
        return bool(self._held.take((call.device.index, call.key - 2 * REFINEMENT_IDS), now_s))

    def _leave(self, now_s: float, call: Call) -> None:
        reply = call.reply
        if reply is not None and reply.session:
            if self.life.reachable:
                self._held.put((call.device.index, reply.session), True, now_s)
            else:  # it drains, and asks no more
                call.reply = reply._replace(session=0)
        self._replied(now_s, call)

    def _stopped(self, now_s: float, killed: bool) -> None:
        self._held.clear()
        if not killed:
            return
        dead, self._in_work = [*self._in_work, *self._queue.take(self._max_pending)], []
        while waiting := self._queue.take(self._max_pending):
            dead += waiting
        self._busy = False
        for call in dead:
            self._lost(now_s, call)
