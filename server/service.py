"""The gRPC service `SplitInference`.

Handlers take and give bytes and parse for themselves: a deserialiser that raises would turn an undecodable
message into UNKNOWN. RunGates answers UNIMPLEMENTED; it comes with its method. TrainStep does where the server does
not train.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import grpc

from ..codec.image import decode_image
from ..codec.requests import build_reply
from ..codec.tokens import TokenCodec
from ..models.card import ModelCard
from ..policies.service_time import Pace
from ..protos import PROTOCOL_VERSION
from ..protos import splitpoint_pb2 as pb
from ..protos.options import MAX_MESSAGE_BYTES, SERVICE
from .batching import Batcher, Job
from .groups import submit_groups
from .refinement import Refinement
from .sessions import Session
from .validation import Rejected, Validator
from .work import Answer, Tail

__all__ = ["InferenceService"]

Context = grpc.aio.ServicerContext[bytes, bytes]


class InferenceService:
    """Serves one network; make it on the event loop.

    card, codec, tail  the network's card, its codec with limits, and what runs its blocks
    max_batch          samples in one batch
    max_pending        requests waiting or in work
    pace               speed of a simulated server, or None
    train              answers TrainStep, bytes to bytes; None refuses it
    """

    def __init__(
        self,
        card: ModelCard,
        codec: TokenCodec,
        tail: Tail,
        *,
        max_batch: int = 16,
        max_pending: int = 256,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        pace: Pace | None = None,
        train: Callable[[bytes], Awaitable[bytes]] | None = None,
    ) -> None:
        self._train = train
        self.batcher = Batcher(tail, max_batch=max_batch, max_pending=max_pending, pace=pace)
        self._card, self._validator = card, Validator(card, codec)
        self._refinement = Refinement(codec)
        self._image_shape = (*card.image_size, card.channels)
        self._max_open = 2 * max_pending
        self._sessions: set[Session] = set()
        self._calls = 0
        self._draining = False
        coders = {coder for cut in range(1, card.depth) for coder in codec.coders(cut)} | {pb.CODER_PACKED}
        payloads = [pb.PAYLOAD_KIND_IMAGE, pb.PAYLOAD_KIND_TOKENS]
        payloads += [pb.PAYLOAD_KIND_SYMBOLS] if codec.symbols.cuts else []
        self._description = pb.DescribeReply(
            protocol_version=PROTOCOL_VERSION,
            model=card.to_message(),
            payloads=payloads,
            coders=sorted(coders),
            tables_crc=codec.tables_crc or None,
            limits=pb.Limits(
                max_message_bytes=max_message_bytes, max_batch=max_batch, max_pending=max_pending
            ),
        ).SerializeToString()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server registers."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        methods = {
            "Describe": unary(self._describe),
            "Infer": unary(self._infer),
            "InferStream": stream(self._infer_stream),
            "Refine": unary(self._refine),
            "RunGates": grpc.unary_stream_rpc_method_handler(partial(self._absent, "RunGates")),
            "TrainStep": unary(self._train_step),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def admit(self, data: bytes, session: Session) -> Job:
        """Validate and queue one request of a stream. Raises Rejected."""
        return self._admit(data, session.finish, None)

    def reply(self, job: Job, answer: Answer) -> pb.InferReply:
        """The reply to a job, with the time it spent here and the load it leaves behind."""
        reply = build_reply(
            request_id=job.request_id,
            prediction=answer.prediction,
            margin=answer.margin,
            exit=answer.exit,
            server_s=time.monotonic() - job.received,
            load=self.batcher.load,
        )
        if job.complete is not None:
            job.complete(answer, reply)
        return reply

    async def drain(self, grace_s: float) -> None:
        """Refuse new streams, let clients end theirs, answer all that was accepted; at most `grace_s`."""
        self._draining, self._refinement.asking = True, False
        for session in self._sessions:
            session.announce_shutdown()
        end = time.monotonic() + grace_s
        while (self._sessions or self._calls) and time.monotonic() < end:
            await asyncio.sleep(0.01)
        for session in self._sessions:
            session.hang_up()

    def _admit(
        self, data: bytes, done: Callable[[Job, Answer | Rejected], None], remaining_s: float | None
    ) -> Job:
        received = time.monotonic()
        request = _parse(pb.InferRequest, data)
        checked = self._validator.check(request)
        limits = [limit for limit in (checked.deadline_s, remaining_s) if limit is not None]
        expires = received + min(limits) if limits else None
        if checked.others:
            samples = (checked.sample, *checked.others)
            return submit_groups(
                self.batcher, samples, checked.group, request.request_id, received, expires, done
            )
        job = Job(checked.sample, checked.group, request.request_id, received, expires, done)
        if request.refine:
            job.complete = self._refinement.completes(request, checked.sample)
        image = checked.image
        decode = None if image is None else partial(decode_image, image, self._image_shape)
        self.batcher.submit(job, decode)
        return job

    async def _describe(self, data: bytes, context: Context) -> bytes:
        try:
            self._validator.describe_version(_parse(pb.DescribeRequest, data).protocol_version)
        except Rejected as refusal:
            await context.abort(refusal.code, str(refusal))
        return self._description

    def _admit_more(
        self, data: bytes, done: Callable[[Job, Answer | Rejected], None], remaining_s: float | None
    ) -> Job:
        received = time.monotonic()
        request = _parse(pb.RefineRequest, data)
        self._validator.served_here(request.protocol_version, request.model_id)
        sample = self._refinement.resume(request)
        group = (sample.cut, sample.values.shape[0])
        expires = None if remaining_s is None else received + remaining_s
        job = Job(sample, group, request.request_id, received, expires, done)
        self.batcher.submit(job)
        return job

    async def _infer(self, data: bytes, context: Context) -> bytes:
        if self._draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        return await self._answer(self._admit, data, context)

    async def _refine(self, data: bytes, context: Context) -> bytes:
        # What is held was accepted: it is served in a shutdown too.
        return await self._answer(self._admit_more, data, context)

    async def _answer(
        self,
        admit: Callable[[bytes, Callable[[Job, Answer | Rejected], None], float | None], Job],
        data: bytes,
        context: Context,
    ) -> bytes:
        future: asyncio.Future[pb.InferReply] = asyncio.get_running_loop().create_future()
        job = None
        self._calls += 1
        try:
            job = admit(data, partial(self._resolve, future), context.time_remaining())
            return (await future).SerializeToString()
        except Rejected as refusal:
            await context.abort(refusal.code, str(refusal))
        finally:
            self._calls -= 1
            if job is not None:
                job.cancelled = True

    def _resolve(self, future: asyncio.Future[pb.InferReply], job: Job, outcome: Answer | Rejected) -> None:
        if future.done():
            return
        if isinstance(outcome, Rejected):
            future.set_exception(outcome)
        else:
            future.set_result(self.reply(job, outcome))

    async def _infer_stream(self, _requests: object, context: Context) -> None:
        if self._draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        session = Session(self, context, self._max_open)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    async def _train_step(self, data: bytes, context: Context) -> bytes:
        if self._train is None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                "TrainStep: this server does not train; one started with serve --train does",
            )
        self._calls += 1
        try:
            return await self._train(data)
        except Rejected as refusal:
            await context.abort(refusal.code, str(refusal))
        finally:
            self._calls -= 1

    async def _absent(self, method: str, _data: bytes, context: Context) -> None:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, f"{method}: this server has Describe, Infer and InferStream only"
        )


def _parse(kind: type, data: bytes):  # type: ignore[no-untyped-def]
    try:
        return kind.FromString(data)  # type: ignore[attr-defined]
    except Exception:  # upb raises DecodeError, the pure-Python parser others
        raise Rejected(grpc.StatusCode.INVALID_ARGUMENT, f"not a {kind.__name__} message") from None
