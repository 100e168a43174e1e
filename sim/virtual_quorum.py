"""The coordinator of a quorum in virtual time: in the place of a `VirtualServer`, with learners behind it.

call ─► coordinate ─► Ask ─► hop ─► LearnerServer, gate by gate ─► hop ─► Opinion ─► coordinate ─► Verdict
                        └ silent for `patience_s`, or killed ─► Gone: not asked again until a probe finds it,
                          but for the silent ones where nobody else is left, who then have till the deadline
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from ..device.effects import Reply
from ..policies.coordination import Ask, Gone, Opinion, Verdict, answer_within, coordinate
from ..policies.service_time import Pace, segment_time
from .call import Call
from .opinions import Opinions
from .quorum_config import QuorumConfig
from .sections import Fault
from .timeline import Timeline
from .virtual_faults import Life
from .virtual_learners import GateTask, LearnerServer

__all__ = ["VirtualQuorum"]


class _Question:
    """One request before the coordinator: its generator, what is asked, and what came that it has not taken yet.

    until_s     when it is answered with what is there
    patience_s  longest silence of one learner before each opinion; infinite once all of them were late
    """

    __slots__ = ("call", "generator", "inbox", "over", "patience_s", "tasks", "until_s", "waits")

    generator: Generator[Any, Any, Verdict | None]

    def __init__(self, call: Call, until_s: float, patience_s: float) -> None:
        self.call, self.until_s, self.patience_s = call, until_s, patience_s
        self.inbox: deque[Opinion | Gone | None] = deque()
        self.tasks: dict[int, GateTask] = {}
        self.waits = self.over = False


class VirtualQuorum:
    """One coordinator and the processes of its learners.

    gate_macs  MACs of every learner's segments, by learner and gate
    passed     exits that the device has passed at a cut
    replied, lost, faults, max_pending  as of a VirtualServer; a fault that names a process is that one's
    """

    def __init__(
        self,
        timeline: Timeline,
        config: QuorumConfig,
        opinions: Opinions,
        gate_macs: Sequence[Sequence[int]],
        passed: Callable[[int], int],
        max_pending: int,
        faults: Sequence[Fault],
        replied: Callable[[float, Call], None],
        lost: Callable[[float, Call], None],
    ) -> None:
        self._timeline, self._config, self._opinions = timeline, config, opinions
        self._gate_macs, self._passed, self._max_pending = gate_macs, passed, max_pending
        self._replied, self._lost = replied, lost
        self._rule = config.rule()
        self._open: set[_Question] = set()
        pace = Pace(config.server.base_s, config.server.macs_per_s)
        self._servers: dict[int, LearnerServer] = {}
        for name, learners in config.processes.items():
            server = LearnerServer(
                timeline,
                gate_macs,
                pace,
                config.server.max_batch,
                config.server.max_pending,
                [fault for fault in faults if fault.process == name],
                self._reached,
                self._broke,
                self._refused,
            )
            self._servers |= dict.fromkeys(learners, server)
        self._order = config.asked
        if config.order == "cost":
            self._order.sort(key=lambda learner: sum(segment_time(pace, 1, m) for m in gate_macs[learner]))
        # Of the suspects, those that were only late, and not looked at since.
        self._suspects: set[int] = set()
        self._doubtful: set[int] = set()
        self.life = Life(timeline, [fault for fault in faults if not fault.process], self._stopped)

    @property
    def load(self) -> int:
        """Requests that the coordinator has not answered yet."""
        return len(self._open)

    def receive(self, now_s: float, call: Call) -> None:
        """A request has arrived."""
        if self.life.frozen:
            self.life.once_thawed(self.receive, call)
        elif not self.life.reachable:
            self._lost(now_s, call)
        elif self.load >= self._max_pending:
            self._replied(now_s, call)
        else:
            self._begin(now_s, call)

    def _begin(self, now_s: float, call: Call) -> None:
        limit_s = answer_within(call.answer_by_s - now_s)
        question = _Question(call, now_s + limit_s, self._config.patience_s)
        self._open.add(question)
        self._timeline.after(limit_s, self._late, question)
        self._poll(now_s, question)

    def _poll(self, now_s: float, question: _Question) -> None:
        able = [learner for learner in self._order if learner not in self._suspects]
        question.generator = coordinate(
            self._rule,
            able or [learner for learner in self._order if learner in self._doubtful],
            len(self._gate_macs[0]),
            parallel=self._config.parallel,
            early=self._early(question.call),
        )
        self._go(now_s, question, None)

    def _early(self, call: Call) -> list[Opinion]:
        """What the device's learner has said already, as its exit state tells."""
        learner, passed = self._config.on_device, self._passed(call.cut)
        if learner is None or not passed:
            return []
        found = self._opinions.opinion(learner, call.sample, passed - 1)
        return [Opinion(learner, passed - 1, found, 0)]

    def _go(self, now_s: float, question: _Question, result: Any) -> None:
        """Let the coordinator act until it waits for something that has not come yet."""
        try:
            effect = question.generator.send(result)
            while True:
                if type(effect) is Ask:
                    self._ask(now_s, question, effect)
                    effect = question.generator.send(None)
                elif question.inbox:
                    effect = question.generator.send(question.inbox.popleft())
                else:
                    question.waits = True
                    return
        except StopIteration as stopped:
            self._decided(now_s, question, stopped.value)

    def _ask(self, now_s: float, question: _Question, ask: Ask) -> None:
        task = question.tasks[ask.learner] = GateTask(question, ask.learner, ask.first, ask.last)
        self._timeline.after(self._config.hop_s, self._servers[ask.learner].receive, task)
        self._expect(task, task.gate)

    def _expect(self, task: GateTask, gate: int) -> None:
        if task.subject.patience_s < math.inf:
            self._timeline.after(task.subject.patience_s, self._impatient, (task, gate))

    def _hear(self, now_s: float, question: _Question, event: Opinion | Gone | None) -> None:
        if self.life.frozen:
            self.life.once_thawed(self._hear, question, event)
        elif question.over:
            return
        elif question.waits:
            question.waits = False
            self._go(now_s, question, event)
        else:
            question.inbox.append(event)

    def _reached(self, now_s: float, task: GateTask) -> None:
        question, gate = task.subject, task.gate
        found = self._opinions.opinion(task.learner, question.call.sample, gate)
        opinion = Opinion(task.learner, gate, found, self._gate_macs[task.learner][gate])
        self._timeline.after(self._config.hop_s, partial(self._heard, task), opinion)

    def _heard(self, task: GateTask, now_s: float, opinion: Opinion) -> None:
        if task.cancelled:
            return
        if opinion.gate < task.last:
            self._expect(task, opinion.gate + 1)
        else:
            task.subject.tasks.pop(task.learner, None)
        self._hear(now_s, task.subject, opinion)

    def _impatient(self, now_s: float, asked: tuple[GateTask, int]) -> None:
        """Nothing was heard since: the learner is gone, for this request and the next ones."""
        task, gate = asked
        if not task.cancelled and task.gate == gate and task.subject.tasks.get(task.learner) is task:
            self._gone(now_s, task, late=True)

    def _broke(self, now_s: float, task: GateTask) -> None:
        if not task.cancelled:
            self._gone(now_s, task, late=False)

    def _refused(self, now_s: float, task: GateTask) -> None:
        self._timeline.after(self._config.hop_s, self._broke, task)

    def _gone(self, now_s: float, task: GateTask, late: bool) -> None:
        task.cancelled = True
        task.subject.tasks.pop(task.learner, None)
        there = self._beside(task.learner)
        if task.learner not in self._suspects:
            self._suspects |= there
            self._timeline.after(self._config.probe_s, self._probe, task.learner)
        self._doubtful = self._doubtful | there if late else self._doubtful - there
        self._hear(now_s, task.subject, Gone(task.learner))

    def _beside(self, learner: int) -> set[int]:
        """The learners of the process that this one is in."""
        return {other for other, its in self._servers.items() if its is self._servers[learner]}

    def _probe(self, now_s: float, learner: int) -> None:
        life, there = self._servers[learner].life, self._beside(learner)
        self._doubtful -= there
        if life.reachable and not life.frozen:
            self._suspects -= there
        else:
            self._timeline.after(self._config.probe_s, self._probe, learner)

    def _late(self, now_s: float, question: _Question) -> None:
        self._hear(now_s, question, None)

    def _decided(self, now_s: float, question: _Question, verdict: Verdict | None) -> None:
        call = question.call
        if verdict is None and question.patience_s < math.inf and now_s < question.until_s:
            # All that could be asked were late: there is no answer to hold up.
            question.patience_s = math.inf
            question.inbox.clear()
            self._poll(now_s, question)
            return
        self._close(question)
        if verdict is None:  # every learner is gone: UNAVAILABLE
            self._lost(now_s, call)
            return
        call.reply = Reply(verdict.prediction, verdict.margin, verdict.gate)
        trip = call.trip
        trip.votes, trip.asked, trip.quorum_macs = verdict.votes, verdict.asked, verdict.macs
        self._replied(now_s, call)

    def _close(self, question: _Question) -> None:
        question.over = True
        self._open.discard(question)
        for task in question.tasks.values():
            task.cancelled = True

    def _stopped(self, now_s: float, killed: bool) -> None:
        if killed:
            for question in list(self._open):
                self._close(question)
                self._lost(now_s, question.call)
