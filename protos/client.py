"""The one gRPC client: the device, the quorum's coordinator and the emulator all speak through it.

Channel options stand in `options`, TLS in `tls`, what can fail in `failures`, the stream's bookkeeping in `stream`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from types import TracebackType
from typing import Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ..errors import RemoteError
from . import PROTOCOL_VERSION
from . import splitpoint_pb2 as pb
from . import splitpoint_pb2_grpc as pb_grpc
from .device_name import DEVICE_KEY
from .failures import CertificateError, LinkDown, Refused, TimedOut, from_rpc_error
from .options import MAX_MESSAGE_BYTES, SERVICE, Timeouts, channel_options
from .stream import Call, InferStream
from .tls import Tls

__all__ = [
    "CertificateError",
    "InferStream",
    "LinkDown",
    "Refused",
    "ServiceClient",
    "TimedOut",
    "Timeouts",
    "Tls",
    "connect",
]

_T = TypeVar("_T")


def connect(
    address: str,
    *,
    timeouts: Timeouts | None = None,
    tls: Tls | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> grpc.aio.Channel:
    """A channel to `address` ("host:port", "unix:path"); connects on first use, reconnects by itself.

    Call it inside a running event loop.
    """
    options = channel_options(timeouts, max_message_bytes=max_message_bytes)
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    if tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.aio.secure_channel(address, tls.credentials(), options=options)


class ServiceClient:
    """One server, or the emulator before it. Use as `async with ServiceClient(address) as client`.

    address   "host:port"
    device    number of this device on the emulator, sent as metadata
    timeouts  every timeout; each call has a deadline
    tls       None for plain text

    Every method raises a RemoteError: LinkDown, TimedOut, CertificateError or Refused (with its `code`).
    """

    def __init__(
        self, address: str, *, device: int = 0, timeouts: Timeouts | None = None, tls: Tls | None = None
    ) -> None:
        self.address = address
        self.timeouts = timeouts or Timeouts()
        self.metadata = ((DEVICE_KEY, str(device)),)
        self.channel = connect(address, timeouts=self.timeouts, tls=tls)
        self._stub = pb_grpc.SplitInferenceStub(self.channel)
        self._policies = pb_grpc.PolicyServiceStub(self.channel)
        self._health = health_pb2_grpc.HealthStub(self.channel)
        # Bytes in, bytes out: the stream serialises once and survives a reply that does not parse.
        self._open_stream = self.channel.stream_stream(
            f"/{SERVICE}/InferStream", request_serializer=None, response_deserializer=None
        )
        self._streams: list[InferStream] = []

    async def describe(self, timeout: float | None = None) -> pb.DescribeReply:
        """What the server runs and accepts. Raises RemoteError where it speaks another protocol version."""
        request = pb.DescribeRequest(protocol_version=PROTOCOL_VERSION)
        reply: pb.DescribeReply = await self._ask(
            self._stub.Describe(request, timeout=timeout or self.timeouts.call, metadata=self.metadata)
        )
        if reply.protocol_version != PROTOCOL_VERSION:
            raise RemoteError(
                f"{self.address}: speaks protocol version {reply.protocol_version}, not {PROTOCOL_VERSION}"
            )
        return reply

    async def infer(self, request: pb.InferRequest, timeout: float | None = None) -> pb.InferReply:
        """One request as a call of its own; tried again where the server was not reachable."""
        call = self._stub.Infer(request, timeout=timeout or self.timeouts.call, metadata=self.metadata)
        return await self._ask(call)

    def stream(self) -> InferStream:
        """A stream for many requests at once; opens on first use, closed with the client."""
        stream = InferStream(self._new_call, self.address, self.timeouts.stream)
        self._streams.append(stream)
        return stream

    def _new_call(self, life_s: float) -> Call:
        return self._open_stream(None, timeout=life_s, metadata=self.metadata)

    async def refine(self, request: pb.RefineRequest, timeout: float | None = None) -> pb.InferReply:
        """More planes or tokens for a request that the server holds. Never tried twice."""
        call = self._stub.Refine(request, timeout=timeout or self.timeouts.call, metadata=self.metadata)
        return await self._ask(call)

    async def decide(self, request: pb.DecideRequest, timeout: float | None = None) -> pb.DecideReply:
        """What the server's policy decides. Never tried twice: it counts what it is asked."""
        call = self._policies.Decide(request, timeout=timeout or self.timeouts.call, metadata=self.metadata)
        return await self._ask(call)

    async def learn(self, request: pb.LearnRequest, timeout: float | None = None) -> pb.LearnReply:
        """Tell the server's policy how requests ended."""
        call = self._policies.Learn(request, timeout=timeout or self.timeouts.call, metadata=self.metadata)
        return await self._ask(call)

    async def run_gates(
        self, request: pb.RunGatesRequest, timeout: float | None = None
    ) -> AsyncGenerator[pb.GateResult, None]:
        """The gates of one learner as they are reached; closing the generator cancels the rest."""
        call = self._stub.RunGates(request, timeout=timeout or self.timeouts.train, metadata=self.metadata)
        try:
            async for result in call:
                # What gRPC makes of a message that does not parse.
                if result is None:
                    raise LinkDown(f"{self.address}: a reply that does not parse")
                yield result
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._why(error) from None
        finally:
            call.cancel()

    async def train_step(
        self, request: pb.TrainStepRequest, timeout: float | None = None
    ) -> pb.TrainStepReply:
        """One step of split learning. Not tried twice in here; the server knows a repeated step by its number."""
        call = self._stub.TrainStep(request, timeout=timeout or self.timeouts.train, metadata=self.metadata)
        return await self._ask(call)

    async def health(self, timeout: float | None = None) -> bool:
        """Whether the server says SERVING; False where it cannot be reached. Raises CertificateError."""
        call = self._health.Check(
            health_pb2.HealthCheckRequest(), timeout=timeout or self.timeouts.health, metadata=self.metadata
        )
        try:
            reply = await self._ask(call)
        except CertificateError:
            raise
        except RemoteError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    async def _ask(self, call: Awaitable[_T]) -> _T:
        try:
            reply = await call
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._why(error) from None
        # What gRPC makes of a call that ends well without a reply.
        if reply is None:
            raise LinkDown(f"{self.address}: the call ended without a reply")
        return reply

    def _why(self, error: grpc.aio.AioRpcError | asyncio.CancelledError) -> BaseException:
        """What a caller is told of a call that failed."""
        if not isinstance(error, asyncio.CancelledError):
            return from_rpc_error(error, self.address)
        # A channel that is closed cancels its calls: that is no cancellation of whoever waits for them.
        task = asyncio.current_task()
        assert task is not None
        return error if task.cancelling() else LinkDown(f"{self.address}: the client was closed")

    async def close(self) -> None:
        """Close the streams and the channel; what is in flight fails with LinkDown."""
        for stream in self._streams:
            await stream.close()
        self._streams.clear()
        await self.channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
