"""A merged batch on the server: a job a group, one reply when all are answered.

    InferRequest with groups ─► one sample a group ─► batcher, as any others ─► answers, gathered ─► one InferReply

After ADC (arXiv 2509.15058). The caller gives every sample of a group the group's answer (`codec.adc.unmerge`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from ..protos import splitpoint_pb2 as pb
from .batching import Batcher, Job
from .refusals import Rejected
from .work import Answer, Sample

__all__ = ["submit_groups"]

_Done = Callable[[Job, Answer | Rejected], None]


class _Gathering:
    """Collects the answers of one request's groups; `done` is called once, with the first group's job."""

    def __init__(self, count: int, done: _Done) -> None:
        self.jobs: list[Job] = []
        self._answers: list[Answer | None] = [None] * count
        self._left, self._done = count, done

    @property
    def over(self) -> bool:
        """Whether the request is answered or given up."""
        return self._left <= 0

    def done(self, job: Job, outcome: Answer | Rejected) -> None:
        if self.over:
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
    samples: Sequence[Sample],
    group: Hashable,
    request_id: int,
    received: float,
    expires: float | None,
    done: _Done,
) -> Job:
    """Queue the samples of one merged request; the job that stands for all. Raises Rejected for a full queue."""
    # For all before any: the parts of a refused request would take others' room until they are thrown away.
    batcher.check_room(len(samples))
    gathering = _Gathering(len(samples), done)
    for sample in samples:
        job = Job(sample, group, request_id, received, expires, gathering.done)
        gathering.jobs.append(job)
        if len(gathering.jobs) == 1:
            job.complete, job.on_cancel = gathering.complete, gathering.give_up
        batcher.submit(job)
        if gathering.over:  # a tail that runs at once has failed on it
            break
    return gathering.jobs[0]
