"""The channel emulator: a process between devices and server that makes real traffic wait as a link would.

    device ─► Infer, InferStream, Refine ─► up: medium, half a round trip, noise on symbols ─► server
           ◄─ reply + LinkReport ◄─ down: medium, half a round trip ◄────────────────┘
    device ◄► TrainStep ◄─────────► medium and half a round trip each way ◄──────────► server
    anything else (health, reflection, Describe, ...) is relayed bytewise, half a round trip each way

Messages that an outage swallows are not answered. Where the server cannot be reached, or the medium does not carry what
was sent, the device is told so at once.
The metadata `splitpoint-device` says whose link it is; without it, device 0's. User space only: kernels often lack
netem.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from ..errors import UsageError
from ..protos import splitpoint_pb2 as pb
from ..protos.client import connect
from ..protos.device_name import device_name
from ..protos.failures import BROKEN
from ..protos.options import SERVICE
from .config import ChannelConfig
from .radio import Radio
from .relay import relay
from .ways import RefineWay, Way

__all__ = ["RESET", "Emulator"]

_CONTROL = "splitpoint.emulator.Control"
RESET = f"/{_CONTROL}/Reset"
"""Method by which a run tells the emulator that it begins."""
_HOP = ("user-agent", "content-type", "te")
Context = grpc.aio.ServicerContext


class Emulator:
    """Relays one server over the links of `config`. Make and use it on one event loop.

    Raises DataError for trace files that cannot be read, ConfigError for a trace that is not in its file.
    """

    def __init__(self, config: ChannelConfig, upstream: str, seed: int) -> None:
        self._config = config
        self._seed = seed
        self.radio = Radio(config, seed)
        for device in range(len(config.links)):
            self.radio.link(device)  # so that a trace which is not there is told now, not to each device
        self._upstream = connect(upstream)

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server registers: it takes every method."""
        return _Methods(self)

    def reset(self, epoch: float) -> None:
        """A new run: time 0 is `epoch` by `time.time()`, media are idle."""
        self.radio = Radio(self._config, self._seed, epoch)

    async def close(self) -> None:
        await self._upstream.close(None)

    async def control(self, data: bytes, context: Context) -> bytes:
        """`Reset` with {"epoch": seconds} in JSON."""
        try:
            epoch = float(json.loads(data)["epoch"])
        except (ValueError, KeyError, TypeError, OverflowError):
            epoch = math.nan
        if not math.isfinite(epoch):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, 'Reset takes {"epoch": seconds}')
        self.reset(epoch)
        return b"{}"

    async def infer(self, data: bytes, context: Context) -> bytes:
        """One request, one reply."""
        return await self._unary("Infer", Way(self.radio, _device(context)), data, context)

    async def refine(self, data: bytes, context: Context) -> bytes:
        """The second message of a request: charged as the first is, with losses of its own."""
        return await self._unary("Refine", RefineWay(self.radio, _device(context)), data, context)

    async def _unary(self, method: str, way: Way, data: bytes, context: Context) -> bytes:
        call = self._upstream.unary_unary(f"/{SERVICE}/{method}", None, None)
        try:
            sent = await way.up(data)
        except UsageError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if sent is None:
            return await _silence()
        try:
            reply = await call(sent, timeout=context.time_remaining(), metadata=_metadata(context))
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        delivered = await way.down(reply)
        return await _silence() if delivered is None else delivered

    async def train_step(self, data: bytes, context: Context) -> bytes:
        """One step of split learning: its bytes take their time on the medium, both ways."""
        device, call = _device(context), self._upstream.unary_unary(f"/{SERVICE}/TrainStep", None, None)
        try:
            request = pb.TrainStepRequest.FromString(data)
            # A step is one exchange, or two where the loss stays on the device.
            key = 2 * request.step + bool(request.logits_gradient)
        except DecodeError:
            key = 0  # the server says what is wrong with it
        if await self.radio.uplink(device, len(data), key) is None:
            return await _silence()
        try:
            reply = await call(data, timeout=context.time_remaining(), metadata=_metadata(context))
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        return reply if await self.radio.downlink(device, len(reply), key) is not None else await _silence()

    async def infer_stream(self, context: Context) -> None:
        """Both ways at once; each message is on its way by itself, so that one does not wait for another's reply."""
        open_call: Any = self._upstream.stream_stream(f"/{SERVICE}/InferStream", None, None)
        call = open_call(timeout=context.time_remaining(), metadata=_metadata(context))
        way = Way(self.radio, _device(context))
        refused: list[UsageError] = []

        async def up(data: bytes) -> bytes | None:
            try:
                return await way.up(data)
            except UsageError as error:
                refused.append(error)
                downward.cancel()
                return None

        upward = asyncio.create_task(relay(context.read, up, call.write))
        downward = asyncio.create_task(relay(call.read, way.down, context.write))
        try:
            await asyncio.wait((upward, downward), return_when=asyncio.FIRST_COMPLETED)
            if not downward.done():
                # The device half-closed: what it sent is still answered.
                await call.done_writing()
                await asyncio.wait((downward,))
        except BROKEN:
            pass  # the status of the call says why
        finally:
            for task in (upward, downward):
                task.cancel()
            await asyncio.gather(upward, downward, return_exceptions=True)
            call.cancel()
        if refused:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refused[0]))
        code = await call.code()
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
            await context.abort(code, await call.details() or "")

    async def anything(self, method: str, context: Context) -> None:
        """Any other method, bytewise."""
        device = _device(context)
        open_call: Any = self._upstream.stream_stream(method, None, None)
        call = open_call(timeout=context.time_remaining(), metadata=_metadata(context))

        async def passes(data: bytes) -> bytes:
            # What is swallowed must not look like an end of the stream without a message.
            return data if await self.radio.propagate(device) else await _silence()

        async def upward() -> None:
            await relay(context.read, passes, call.write)
            await call.done_writing()

        sending = asyncio.create_task(upward())
        try:
            await relay(call.read, passes, context.write)
        except grpc.aio.AioRpcError:
            pass  # the status of the call says why
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        code = await call.code()
        if code is not grpc.StatusCode.OK:
            await context.abort(code, await call.details() or "")


async def _silence() -> bytes:
    """What was swallowed is not answered: gRPC cancels this when the caller gives up."""
    return await asyncio.get_running_loop().create_future()


class _Methods(grpc.GenericRpcHandler):
    """Every method is taken; messages stay bytes."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        emulator, method = self._emulator, str(details.method)
        if method == RESET:
            return grpc.unary_unary_rpc_method_handler(emulator.control)
        if method == f"/{SERVICE}/Infer":
            return grpc.unary_unary_rpc_method_handler(emulator.infer)
        if method == f"/{SERVICE}/TrainStep":
            return grpc.unary_unary_rpc_method_handler(emulator.train_step)
        if method == f"/{SERVICE}/Refine":
            return grpc.unary_unary_rpc_method_handler(emulator.refine)
        if method == f"/{SERVICE}/InferStream":

            async def stream(_requests: AsyncIterator[bytes], context: Context) -> None:
                await emulator.infer_stream(context)

            return grpc.stream_stream_rpc_method_handler(stream)

        async def anything(_requests: AsyncIterator[bytes], context: Context) -> None:
            await emulator.anything(method, context)

        # On the wire a unary call is a stream of one message, so this serves all kinds.
        return grpc.stream_stream_rpc_method_handler(anything)


def _device(context: Context) -> int:
    name = device_name(context)
    return int(name) if name.isdecimal() else 0


def _metadata(context: Context) -> list[tuple[str, str | bytes]]:
    pairs = context.invocation_metadata() or ()
    return [(key, value) for key, value in pairs if not key.startswith((":", "grpc-")) and key not in _HOP]
