"""A merged batch on the server: a job a group, one reply when all are answered.

    InferRequest with groups ─► one sample a group ─► batcher, as any others ─► answers, gathered ─► one InferReply

After ADC (arXiv 2509.15058). The caller gives every sample of a group the group's answer (`codec.adc.unmerge`).
"""

from __future__ import annotations

from collections.abc import Callable

from ..protos import splitpoint_pb2 as pb
from .batching import Batcher, Job
from .refusals import Rejected
from .validation import Checked
from .work import Answer

__all__ = ["submit_groups"]

_Done = Callable[[Job, Answer | Rejected], None]


class _Gathering:
    """Collects the answers of one request's groups; `done` is called once, with the first group's job."""

    def __init__(self, count: int, done: _Done) -> None:
        self.jobs: list[Job] = []
        self._answers: list[Answer | None] = [None] * count
        self._left, self._done = count, done

    def done(self, job: Job, outcome: Answer | Rejected) -> None:
        if self._left <= 0:  # answered or given up
            return
        # The request as a whole is in work until the last of its groups is answered.
        lead = self.jobs[0]
        lead.finished = False
        if isinstance(outcome, Rejected):
            self.give_up()
        else:
            self._answers[self.jobs.index(job)] = outcome
            self._left -= 1
            if self._left:
                return
            outcome = self._answers[0] or outcome
        lead.finished = True
        self._done(lead, outcome)

    def complete(self, _answer: Answer, reply: pb.InferReply) -> None:
        for answer in self._answers[1:]:
            assert answer is not None
            reply.group.add(prediction=answer.prediction, margin=answer.margin, exit=answer.exit)

    def give_up(self) -> None:
        self._left = 0
        for job in self.jobs:
            job.cancelled = True


def submit_groups(
    batcher: Batcher,
    checked: Checked,
    request_id: int,
    received: float,
    expires: float | None,
    done: _Done,
) -> Job:
    """Queue the samples of one merged request; the job that stands for all. Raises Rejected for a full queue."""
    gathering = _Gathering(len(checked.samples), done)
    gathering.jobs = [
        Job(sample, checked.group, request_id, received, expires, gathering.done)
        for sample in checked.samples
    ]
    lead = gathering.jobs[0]
    lead.complete, lead.on_cancel = gathering.complete, gathering.give_up
    batcher.submit(gathering.jobs, checked.decode)
    return lead
