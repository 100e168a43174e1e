"""The gRPC service `SplitInference`.

Handlers take and give bytes and parse for themselves: a deserialiser that raises would turn an undecodable
message into UNKNOWN. What a server was not started for answers UNIMPLEMENTED.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import grpc

from ..protos import PROTOCOL_VERSION
from ..protos import splitpoint_pb2 as pb
from ..protos.options import MAX_MESSAGE_BYTES, SERVICE
from .batching import Job
from .desk import Admit, Desk, taken_in
from .refusals import Rejected, abort, absent, shutting_down
from .run_gates import GateService
from .sessions import Session
from .validation import check_version, parse
from .work import Answer

__all__ = ["InferenceService"]

Context = grpc.aio.ServicerContext[bytes, bytes]


class InferenceService:
    """The methods of one server; make it on the event loop.

    desk   takes requests in; None: this server runs gates only
    gates  answers RunGates; None refuses it
    train  answers TrainStep, bytes to bytes; None refuses it
    policy  name of the policy that a PolicyService beside this one decides by; Describe tells it
    """

    def __init__(
        self,
        desk: Desk | None,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        gates: GateService | None = None,
        train: Callable[[bytes], Awaitable[bytes]] | None = None,
        policy: str = "",
    ) -> None:
        self._desk, self._gates, self._train, self._policy = desk, gates, train, policy
        self._max_message_bytes = max_message_bytes
        self._sessions: set[Session] = set()
        self._calls = 0
        self._draining = False

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server registers."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        methods = {
            "Describe": unary(self._describe),
            "Infer": unary(self._infer),
            "InferStream": stream(self._infer_stream),
            "Refine": unary(self._refine),
            "RunGates": grpc.unary_stream_rpc_method_handler(self._run_gates),
            "TrainStep": unary(self._train_step),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def describe(self) -> pb.DescribeReply:
        """What this server runs and accepts."""
        desk, gates = self._desk, self._gates
        reply = pb.DescribeReply() if desk is None else desk.describe()
        reply.protocol_version = PROTOCOL_VERSION
        reply.policy = self._policy
        reply.limits.max_message_bytes = self._max_message_bytes
        if desk is not None:
            reply.limits.max_batch, reply.limits.max_pending = desk.max_batch, desk.max_pending
        if gates is not None:
            reply.learners.extend(gates.describe())
        return reply

    async def drain(self, grace_s: float) -> None:
        """Refuse new streams, let clients end theirs, answer all that was accepted; at most `grace_s`."""
        self._draining = True
        if self._desk is not None:
            self._desk.settle()
        for session in self._sessions:
            session.announce_shutdown()
        end = time.monotonic() + grace_s
        while (self._sessions or self._calls) and time.monotonic() < end:
            await asyncio.sleep(0.01)
        for session in self._sessions:
            session.hang_up()

    async def _describe(self, data: bytes, context: Context) -> bytes:
        try:
            check_version(parse(pb.DescribeRequest, data).protocol_version)
        except Rejected as refusal:
            await abort(context, refusal)
        return self.describe().SerializeToString()

    async def _infer(self, data: bytes, context: Context) -> bytes:
        desk = await self._welcome("Infer", context)
        return await self._answer(desk, desk.admit, data, context)

    async def _refine(self, data: bytes, context: Context) -> bytes:
        # What is held was accepted: it is served in a shutdown too.
        if self._desk is None:
            await abort(context, _no_desk("Refine"))
        return await self._answer(self._desk, self._desk.admit_more, data, context)

    async def _answer(self, desk: Desk, admit: Admit, data: bytes, context: Context) -> bytes:
        future: asyncio.Future[pb.InferReply] = asyncio.get_running_loop().create_future()
        job = None
        self._calls += 1
        try:
            job = taken_in(admit, data, partial(_resolve, future, desk), context.time_remaining())
            return (await future).SerializeToString()
        except Rejected as refusal:
            await abort(context, refusal)
        finally:
            self._calls -= 1
            if job is not None:
                job.cancel()

    async def _infer_stream(self, _requests: object, context: Context) -> None:
        desk = await self._welcome("InferStream", context)
        session = Session(desk, context, 2 * desk.max_pending)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    async def _run_gates(self, data: bytes, context: Context) -> None:
        if self._gates is None:
            await abort(context, absent("RunGates", "serve --learner"))
        if self._draining:
            await abort(context, shutting_down())
        self._calls += 1
        try:
            await self._gates.stream(data, context)
        except Rejected as refusal:
            await abort(context, refusal)
        finally:
            self._calls -= 1

    async def _train_step(self, data: bytes, context: Context) -> bytes:
        if self._train is None:
            await abort(context, absent("TrainStep", "serve --train"))
        if self._draining:
            await abort(context, shutting_down())
        self._calls += 1
        try:
            return await self._train(data)
        except Rejected as refusal:
            await abort(context, refusal)
        finally:
            self._calls -= 1

    async def _welcome(self, method: str, context: Context) -> Desk:
        """The desk; the call is aborted where there is none, or where nothing is taken in any more."""
        if self._desk is None:
            await abort(context, _no_desk(method))
        if self._draining:
            await abort(context, shutting_down())
        return self._desk


def _resolve(future: asyncio.Future[pb.InferReply], desk: Desk, job: Job, outcome: Answer | Rejected) -> None:
    if future.done():
        return
    if isinstance(outcome, Rejected):
        future.set_exception(outcome)
    else:
        future.set_result(desk.reply(job, outcome))


def _no_desk(method: str) -> Rejected:
    return absent(method, "serve --model")
