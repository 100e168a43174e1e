"""RunGates: gates of one learner on one input, each reported as it is reached.

RunGatesRequest ─► validate ─► what earlier gates left, or the payload, decoded ─► compute thread ─► GateResult, ...
                                └ kept for some seconds under the payload's digest ◄┘ where gates are left
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import grpc
import numpy as np

from ..codec.errors import PayloadError
from ..codec.image import decode_image
from ..codec.requests import check_payload_crc
from ..codec.tokens import TokenCodec
from ..protos import splitpoint_pb2 as pb
from ..protos.device_name import device_name
from .gate_work import GateJob, GateOpinion, LearnerCard
from .gates import GateWorker
from .held import HeldRequests
from .refusals import Rejected, bad_payload, invalid, unmet
from .validation import check_version, parse, read_deadline, soonest

__all__ = ["GateService"]

Context = grpc.aio.ServicerContext[bytes, bytes]


class _Question(NamedTuple):
    """A request that may run. `key` names its input: the same for all gates that are asked about it."""

    learner: int
    card: LearnerCard
    request: pb.InferRequest
    first: int
    last: int
    deadline_s: float | None
    key: tuple[object, ...]


class _Held(NamedTuple):
    next: int
    group: int
    state: Any


class GateService:
    """Answers RunGates for the runners of a worker.

    codecs  of the heads whose tokens are taken, by model id; with the limits of a request
    """

    def __init__(self, worker: GateWorker, codecs: Mapping[str, TokenCodec]) -> None:
        self.worker = worker
        self._codecs = codecs
        self._index = {runner.card.name: index for index, runner in enumerate(worker.runners)}
        self._held: HeldRequests[_Held] = HeldRequests()
        self._decoder = ThreadPoolExecutor(1, "decode")

    @property
    def cards(self) -> Sequence[LearnerCard]:
        return [runner.card for runner in self.worker.runners]

    def check(self, request: pb.RunGatesRequest, device: str = "") -> _Question:
        """What is asked. Raises Rejected: FAILED_PRECONDITION for another protocol version or shared head,
        INVALID_ARGUMENT for everything else, naming the field. The payload itself is checked where it is decoded."""
        inner = request.request
        check_version(inner.protocol_version)
        index = self._index.get(request.learner)
        if index is None:
            known = ", ".join(sorted(self._index))
            raise invalid(f"learner: {request.learner[:64]!r} is not served here; known: {known}")
        card = self.worker.runners[index].card
        if not inner.HasField("request_id"):
            raise invalid("request.request_id: is missing")
        if request.last_gate >= card.gates:
            raise invalid(f"last_gate: must be in 0..{card.gates - 1}, not {request.last_gate}")
        if request.first_gate > request.last_gate:
            raise invalid(
                f"first_gate: must be at most last_gate {request.last_gate}, not {request.first_gate}"
            )
        _check_input(inner, card)
        try:
            check_payload_crc(inner)
        except PayloadError as error:
            raise bad_payload(error, "request.") from None
        payload = inner.image if card.cut == 0 else inner.tokens
        digest = hashlib.blake2b(payload.SerializeToString(deterministic=True), digest_size=16).digest()
        key = (device, inner.request_id, index, digest)
        return _Question(index, card, inner, request.first_gate, request.last_gate, read_deadline(inner), key)

    async def ask(
        self, question: _Question, remaining_s: float | None = None
    ) -> AsyncGenerator[GateOpinion, None]:
        """Opinions as they are reached; closing the generator cancels what is left. Raises Rejected."""
        received_s = time.monotonic()
        limit_s = soonest(question.deadline_s, remaining_s)
        told: asyncio.Queue[GateOpinion | Rejected] = asyncio.Queue()
        job = GateJob(
            question.learner,
            question.request.request_id,
            question.first,
            question.last,
            told.put_nowait,
            expires=None if limit_s is None else received_s + limit_s,
        )
        self.worker.enter()
        try:
            held = self._held.take(question.key, received_s)
            if held is not None and held.next <= question.first:
                job.next, job.group, job.state = held
            else:
                job.values = await self._decoded(question)
                job.group = 0 if question.card.cut == 0 else len(job.values)
        except BaseException:
            self.worker.leave()
            raise
        self.worker.submit(job)
        try:
            while True:
                outcome = await told.get()
                if isinstance(outcome, Rejected):
                    raise outcome
                if outcome.last and job.next < question.card.gates:
                    self._held.put(question.key, _Held(job.next, job.group, job.state), time.monotonic())
                yield outcome
                if outcome.last:
                    return
        finally:
            job.cancelled = True

    async def stream(self, data: bytes, context: Context) -> None:
        """The gRPC method, bytes to bytes. Raises Rejected."""
        since_s = time.monotonic()
        request = parse(pb.RunGatesRequest, data)
        question = self.check(request, device_name(context))
        opinions = self.ask(question, context.time_remaining())
        try:
            async for opinion in opinions:
                now_s = time.monotonic()
                result = pb.GateResult(
                    request_id=question.request.request_id,
                    learner=request.learner,
                    gate=opinion.gate,
                    probabilities=opinion.probabilities.astype("<f2").tobytes(),
                    macs=opinion.macs,
                    server_s=now_s - since_s,
                )
                since_s = now_s
                await context.write(result.SerializeToString())
        finally:
            await opinions.aclose()

    def describe(self) -> list[pb.Learner]:
        """The learners as DescribeReply lists them."""
        return [
            pb.Learner(
                id=card.id,
                name=card.name,
                gate_macs=card.gate_macs,
                classes=card.classes,
                image_height=card.shape[0],
                image_width=card.shape[1],
                channels=card.shape[2],
                head_id=card.head_id,
                cut=card.cut,
            )
            for card in self.cards
        ]

    def close(self) -> None:
        self._decoder.shutdown(cancel_futures=True)
        self.worker.close()

    async def _decoded(self, question: _Question) -> np.ndarray:
        card, request = question.card, question.request
        if card.cut == 0:
            decode = partial(decode_image, request.image, card.shape)
        else:
            decode = partial(self._codecs[card.head_id].decode, request.tokens, card.cut)
        try:
            values = await asyncio.get_running_loop().run_in_executor(self._decoder, decode)
        except PayloadError as error:
            raise bad_payload(error, "request.") from None
        return values


def _check_input(request: pb.InferRequest, card: LearnerCard) -> None:
    if request.HasField("exit_state"):
        raise invalid("request.exit_state: gates begin with the payload")
    if request.refine:
        raise invalid("request.refine: gates are not refined")
    kind, wanted = request.WhichOneof("payload"), "tokens" if card.cut else "image"
    if kind != wanted:
        raise invalid(f"request.{kind or 'payload'}: learner {card.name} takes {wanted}")
    if request.split != card.cut:
        raise invalid(f"request.split: learner {card.name} takes {wanted} at {card.cut}, not {request.split}")
    if card.cut and request.model_id != card.head_id:
        raise unmet(
            f"request.model_id: {request.model_id[:64]!r}, learner {card.name} takes tokens of {card.head_id!r}"
        )
    if card.cut and request.tokens.HasField("groups"):
        raise invalid("request.tokens.groups: learners take one sample at a time")
    patches = card.shape[0] * card.shape[1]
    if card.cut and request.tokens.count != patches + 1:
        raise invalid(f"request.tokens.count: learner {card.name} takes all {patches + 1}")
    if request.tokens.rest:
        raise invalid(f"request.tokens.rest: learner {card.name} takes patches only, in their places")
