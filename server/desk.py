"""Who takes requests in: the network's tail here, the quorum's coordinator in `quorum_desk`, behind one interface.

bytes ─► Desk.admit: validate, queue ─► Job ─► done(job, answer | why not) ─► Desk.reply
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from ..codec.requests import build_reply
from ..codec.tokens import TokenCodec
from ..models.card import ModelCard
from ..policies.service_time import Pace
from ..protos import splitpoint_pb2 as pb
from .batching import Batcher, Job
from .groups import submit_groups
from .refinement import Refinement
from .refusals import Rejected, failed
from .validation import Validator, check_version, decoded_into, parse, soonest
from .work import Answer, Tail

__all__ = ["Admit", "Desk", "Done", "TailDesk", "described", "reply_to", "taken_in"]

logger = logging.getLogger(__name__)

Done = Callable[[Job, Answer | Rejected], None]
Admit = Callable[[bytes, Done, float | None], Job]


class Desk(Protocol):
    """Used on the event loop only."""

    max_batch: int
    max_pending: int

    def admit(self, data: bytes, done: Done, remaining_s: float | None) -> Job:
        """Validate and queue an InferRequest; `done` is called once. Raises Rejected."""
        ...

    def admit_more(self, data: bytes, done: Done, remaining_s: float | None) -> Job:
        """The same for a RefineRequest."""
        ...

    def reply(self, job: Job, answer: Answer) -> pb.InferReply:
        """The reply to a job, with the time it spent here and the load it leaves behind."""
        ...

    def describe(self) -> pb.DescribeReply:
        """What is served: card, payloads, coders."""
        ...

    def settle(self) -> None:
        """The server drains: begin nothing that takes another message."""
        ...

    async def close(self) -> None: ...


class TailDesk:
    """Serves one network by a batched tail; make it on the event loop.

    card, codec, tail  the network's card, its codec with limits, and what runs its blocks
    max_batch          samples in one batch
    max_pending        requests waiting or in work
    pace               speed of a simulated server, or None
    """

    def __init__(
        self,
        card: ModelCard,
        codec: TokenCodec,
        tail: Tail,
        *,
        max_batch: int,
        max_pending: int,
        pace: Pace | None = None,
    ) -> None:
        self.max_batch, self.max_pending = max_batch, max_pending
        self.batcher = Batcher(tail, max_batch=max_batch, max_pending=max_pending, pace=pace)
        self._card, self._codec, self._validator = card, codec, Validator(card, codec)
        self._refinement = Refinement(codec)

    def admit(self, data: bytes, done: Done, remaining_s: float | None) -> Job:
        received = time.monotonic()
        request = parse(pb.InferRequest, data)
        checked = self._validator.check(request)
        limit_s = soonest(checked.deadline_s, remaining_s)
        expires = None if limit_s is None else received + limit_s
        if len(checked.samples) > 1:
            return submit_groups(self.batcher, checked, request.request_id, received, expires, done)
        job = Job(checked.sample, checked.group, request.request_id, received, expires, done)
        if request.refine:
            job.complete = self._refinement.completes(request, checked.sample)
        self.batcher.submit([job], checked.decode)
        return job

    def admit_more(self, data: bytes, done: Done, remaining_s: float | None) -> Job:
        received = time.monotonic()
        request = parse(pb.RefineRequest, data)
        check_version(request.protocol_version)
        sample, found = self._refinement.resume(request)
        expires = None if remaining_s is None else received + remaining_s
        job = Job(sample, (sample.cut, found.rows), request.request_id, received, expires, done)
        self.batcher.submit([job], decoded_into(sample, found))
        return job

    def reply(self, job: Job, answer: Answer) -> pb.InferReply:
        return reply_to(job, answer, self.batcher.load)

    def describe(self) -> pb.DescribeReply:
        return described(self._card, self._codec, _payload_kinds(self._codec))

    def settle(self) -> None:
        self._refinement.asking = False

    async def close(self) -> None:
        self.batcher.close()


def taken_in(admit: Admit, data: bytes, done: Done, remaining_s: float | None) -> Job:
    """What a desk's `admit` or `admit_more` gives. Where it fails itself, that is Rejected too (INTERNAL), and logged:
    one such request must not end the stream of many."""
    try:
        return admit(data, done, remaining_s)
    except Rejected:
        raise
    except Exception:
        logger.exception("taking a request in failed")
        raise failed() from None


def described(
    card: ModelCard, codec: TokenCodec, payloads: Iterable[pb.PayloadKind.ValueType]
) -> pb.DescribeReply:
    """What devices with this network are told: these payloads are taken, and the codec's coders understood."""
    coders = {coder for cut in range(1, card.depth) for coder in codec.coders(cut)}
    return pb.DescribeReply(
        model=card.to_message(),
        payloads=payloads,
        coders=sorted(coders | {pb.CODER_PACKED}),
        tables_crc=codec.tables_crc or None,
    )


def _payload_kinds(codec: TokenCodec) -> list[pb.PayloadKind.ValueType]:
    """What a whole network with this codec takes."""
    kinds = [pb.PAYLOAD_KIND_IMAGE, pb.PAYLOAD_KIND_TOKENS]
    return [*kinds, pb.PAYLOAD_KIND_SYMBOLS] if codec.symbols.cuts else kinds


def reply_to(job: Job, answer: Answer, load: int) -> pb.InferReply:
    """The reply to a job; `load` requests are left waiting or in work."""
    reply = build_reply(
        request_id=job.request_id,
        prediction=answer.prediction,
        margin=answer.margin,
        exit=answer.exit,
        server_s=time.monotonic() - job.received,
        load=load,
    )
    if job.complete is not None:
        job.complete(answer, reply)
    return reply
