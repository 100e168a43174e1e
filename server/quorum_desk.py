"""Requests to a quorum: the normal surface of a server, answered by a coordinator instead of a tail.

InferRequest ─► validate, decode as a trial ─► Coordinator.decide ─► InferReply with `quorum`
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc

from ..codec.errors import PayloadError
from ..codec.tokens import TokenCodec
from ..models.card import ModelCard
from ..policies.quorum import Reason
from ..protos import splitpoint_pb2 as pb
from .batching import Job
from .coordinator import Coordinator, Poll
from .desk import Done, described, reply_to
from .refusals import Rejected, bad_payload, failed, invalid, queue_full, unmet
from .validation import Checked, Validator, parse, soonest
from .work import Answer

__all__ = ["QuorumDesk"]

logger = logging.getLogger(__name__)

_REASONS: dict[Reason, pb.QuorumReason.ValueType] = {
    "quorum": pb.QUORUM_REASON_QUORUM,
    "last": pb.QUORUM_REASON_LAST,
    "shrunk": pb.QUORUM_REASON_SHRUNK,
    "deadline": pb.QUORUM_REASON_DEADLINE,
}


class QuorumDesk:
    """Takes requests of the devices' network and has a coordinator answer them; make it on the event loop.

    card, codec  of the devices' network; `exit` of a reply is an index into its exits, one a gate
    """

    def __init__(
        self,
        card: ModelCard,
        codec: TokenCodec,
        coordinator: Coordinator,
        *,
        max_batch: int,
        max_pending: int,
    ) -> None:
        self.max_batch, self.max_pending, self.load = max_batch, max_pending, 0
        self._card, self._codec, self._coordinator = card, codec, coordinator
        self._validator = Validator(card, codec, opinions=True)
        self._decoder = ThreadPoolExecutor(1, "check")
        self._tasks: set[asyncio.Task[None]] = set()

    def admit(self, data: bytes, done: Done, remaining_s: float | None) -> Job:
        received = time.monotonic()
        request = parse(pb.InferRequest, data)
        checked = self._validator.check(request)
        merged = len(checked.samples) > 1
        if merged or request.WhichOneof("payload") == "symbols":
            raise invalid(f"{'tokens.groups' if merged else 'symbols'}: a quorum does not take them")
        if request.split and request.tokens.count != self._card.patch_tokens + 1:
            raise invalid(f"tokens.count: a quorum takes all {self._card.patch_tokens + 1}")
        if request.tokens.rest:
            raise invalid("tokens.rest: a quorum takes patches only, in their places")
        if not self._coordinator.takes(request.split):
            # They may have come after the device was told what is taken: by this code it asks again.
            raise unmet(f"split: no learner of the quorum takes a payload at {request.split}")
        if self.load >= self.max_pending:
            raise queue_full(self.load)
        limit_s = soonest(checked.deadline_s, remaining_s)
        expires = None if limit_s is None else received + limit_s
        job = Job(checked.sample, checked.group, request.request_id, received, expires, done)
        self.load += 1
        task = asyncio.get_running_loop().create_task(self._answer(job, request, checked, limit_s))
        self._tasks.add(task)
        task.add_done_callback(partial(self._left, job))
        job.on_cancel = partial(_cancel, task)
        return job

    def admit_more(self, data: bytes, done: Done, remaining_s: float | None) -> Job:
        parse(pb.RefineRequest, data)
        raise Rejected(grpc.StatusCode.NOT_FOUND, "session: a quorum holds no requests for more")

    def reply(self, job: Job, answer: Answer) -> pb.InferReply:
        return reply_to(job, answer, self.load)

    def describe(self) -> pb.DescribeReply:
        payloads = [pb.PAYLOAD_KIND_IMAGE]
        payloads += [pb.PAYLOAD_KIND_TOKENS] if self._coordinator.takes_tokens else []
        return described(self._card, self._codec, payloads)

    def settle(self) -> None:
        pass

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._decoder.shutdown(cancel_futures=True)
        await self._coordinator.close()

    def _left(self, job: Job, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not job.finished:
            self.load -= 1

    async def _answer(
        self, job: Job, request: pb.InferRequest, checked: Checked, limit_s: float | None
    ) -> None:
        outcome: Answer | Rejected
        try:
            poll = await self._decided(job, request, checked, limit_s)
            verdict = poll.verdict
            job.complete = partial(_account, poll)
            outcome = Answer(verdict.prediction, verdict.margin, verdict.gate)
        except Rejected as refusal:
            outcome = refusal
        except Exception:
            logger.exception("the quorum failed on a request")
            outcome = failed()
        self.load -= 1
        job.finished = True
        job.done(job, outcome)

    async def _decided(
        self, job: Job, request: pb.InferRequest, checked: Checked, limit_s: float | None
    ) -> Poll:
        if checked.decode is not None:
            # Here and not first at the learners: what no one can read is the device's fault, not theirs.
            try:
                await asyncio.get_running_loop().run_in_executor(self._decoder, checked.decode)
            except PayloadError as error:
                raise bad_payload(error) from None
        early = self._coordinator.early(request, job.sample)
        if limit_s is not None:
            limit_s -= time.monotonic() - job.received
        return await self._coordinator.decide(request, early, limit_s)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _account(poll: Poll, _answer: Answer, reply: pb.InferReply) -> None:
    verdict = poll.verdict
    reply.quorum.votes, reply.quorum.asked = verdict.votes, verdict.asked
    reply.quorum.alive, reply.quorum.macs = poll.alive, verdict.macs
    reply.quorum.reason = _REASONS[verdict.reason]
