"""The channel emulator: a process between devices and server that makes real traffic wait as a link would.

    device ─► Infer, InferStream ─► up: medium, half a round trip, noise on symbols ─► server
           ◄─ reply + LinkReport ◄─ down: medium, half a round trip ◄────────────────┘
    anything else (health, reflection, Describe, ...) is relayed bytewise, half a round trip each way

Messages that an outage swallows are not answered. Where the server cannot be reached, the device is told so at once.
The metadata `splitpoint-device` says whose link it is; without it, device 0's. User space only: kernels often lack
netem.
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import yaml
from pydantic import ValidationError

from ..errors import ConfigError, UsageError
from ..protos.client import DEVICE_KEY, connect
from ..protos.options import MAX_MESSAGE_BYTES, SERVICE, server_options
from .config import ChannelConfig
from .radio import Radio
from .relay import Carry, Relay
from .ways import InferWay, PlainWay

__all__ = ["Emulator", "main", "reset_emulator", "serve_emulator"]

_CONTROL = "splitpoint.emulator.Control"
_RESET = f"/{_CONTROL}/Reset"
_HOP = ("user-agent", "content-type", "te")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MAX_MESSAGE_BYTES = 8 * MAX_MESSAGE_BYTES  # so that the server's own limit is the one that is felt
_DEVICE_DIGITS = 9
# How a write on a connection that has just died reads.
_BROKEN = (grpc.StatusCode.INTERNAL, "Internal error from Core")
# A device that vanished without a word is noticed within 20 s.
_PINGS = [("grpc.keepalive_time_ms", 10_000), ("grpc.http2.ping_timeout_ms", 10_000)]
Context = grpc.aio.ServicerContext


class Emulator:
    """Relays one server over the links of `config`. Make and use it on one event loop."""

    def __init__(self, config: ChannelConfig, upstream: str, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._upstream = connect(upstream, max_message_bytes=_MAX_MESSAGE_BYTES)
        self._streams: set[InferWay] = set()
        self.radio = Radio(config, seed)

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server registers: it takes every method."""
        return _Methods(self)

    def reset(self, epoch: float) -> None:
        """A new run: time 0 is `epoch` by `time.time()`, media are idle."""
        self.radio = Radio(self._config, self._seed, epoch)
        for way in self._streams:
            way.radio = self.radio

    async def close(self) -> None:
        await self._upstream.close(None)

    async def control(self, data: bytes, context: Context) -> bytes:
        """`Reset` with {"epoch": seconds} in JSON."""
        try:
            epoch = float(json.loads(data)["epoch"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            epoch = math.nan
        if not math.isfinite(epoch):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, 'Reset takes {"epoch": seconds}')
        self.reset(epoch)
        return b"{}"

    async def infer(self, data: bytes, context: Context) -> bytes:
        """One request, one reply. What was swallowed is not answered: gRPC ends this when the caller gives up."""
        way, metadata = InferWay(self.radio, _device(context)), _metadata(context)
        call = self._upstream.unary_unary(f"/{SERVICE}/Infer", None, None)
        sent = await _delivered(way.up, data)
        try:
            reply = await call(sent, timeout=context.time_remaining(), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        return await _delivered(way.down, reply)

    async def infer_stream(self, context: Context) -> None:
        """Both ways at once; each message is on its way by itself, and does not wait for another's reply."""
        way = InferWay(self.radio, _device(context))
        self._streams.add(way)
        try:
            await self._relay(f"/{SERVICE}/InferStream", way, context)
        finally:
            self._streams.discard(way)

    async def anything(self, method: str, context: Context) -> None:
        """Any other method, bytewise. The end of the call is lost with its messages."""
        way = PlainWay(self.radio, _device(context))
        await self._relay(method, way, context, whole=True)

    async def _relay(
        self, method: str, way: InferWay | PlainWay, context: Context, *, whole: bool = False
    ) -> None:
        """Both directions until both have ended. whole: where a message was swallowed, the end is too."""
        open_call: Any = self._upstream.stream_stream(method, None, None)
        call = open_call(timeout=context.time_remaining(), metadata=_metadata(context))
        up, down = Relay(context.read, way.up, call.write), Relay(call.read, way.down, context.write)
        upward, downward = asyncio.create_task(up.run()), asyncio.create_task(down.run())
        try:
            await asyncio.wait((upward, downward), return_when=asyncio.FIRST_COMPLETED)
            if not downward.done():
                if up.broken or upward.exception() is not None:
                    call.cancel()
                elif not (whole and up.swallowed):
                    # The device half-closed: what it sent is still answered.
                    await call.done_writing()
                await asyncio.wait((downward,))
        finally:
            for task in (upward, downward):
                task.cancel()
            await asyncio.gather(upward, downward, return_exceptions=True)
            call.cancel()
        if whole and down.swallowed:
            await _silence()
        code, details = await call.code(), await call.details() or ""
        if whole:
            context.set_trailing_metadata(tuple(await call.trailing_metadata() or ()))
        if code is grpc.StatusCode.CANCELLED or (code, details) == _BROKEN:
            code = grpc.StatusCode.UNAVAILABLE
        if code is not grpc.StatusCode.OK:
            await context.abort(code, details)


async def _silence() -> None:
    await asyncio.get_running_loop().create_future()


async def _delivered(carry: Carry, data: bytes) -> bytes:
    """`data` as it arrives; never, if it is swallowed."""
    arrival: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def deliver(arrived: bytes | None) -> None:
        if arrived is not None and not arrival.done():
            arrival.set_result(arrived)

    carry(data, deliver)
    return await arrival


class _Methods(grpc.GenericRpcHandler):
    """Every method is taken; messages stay bytes."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        emulator, method = self._emulator, str(details.method)
        if method == _RESET:
            return grpc.unary_unary_rpc_method_handler(emulator.control)
        if method == f"/{SERVICE}/Infer":
            return grpc.unary_unary_rpc_method_handler(emulator.infer)
        if method == f"/{SERVICE}/InferStream":

            async def stream(_requests: AsyncIterator[bytes], context: Context) -> None:
                await emulator.infer_stream(context)

            return grpc.stream_stream_rpc_method_handler(stream)

        async def anything(_requests: AsyncIterator[bytes], context: Context) -> None:
            await emulator.anything(method, context)

        # On the wire a unary call is a stream of one message, so this serves all kinds.
        return grpc.stream_stream_rpc_method_handler(anything)


def _device(context: Context) -> int:
    value = dict(context.invocation_metadata() or ()).get(DEVICE_KEY, "0")
    known = isinstance(value, str) and value.isdecimal() and len(value) <= _DEVICE_DIGITS
    return int(value) if known else 0


def _metadata(context: Context) -> list[tuple[str, str | bytes]]:
    pairs = context.invocation_metadata() or ()
    return [(key, value) for key, value in pairs if not key.startswith((":", "grpc-")) and key not in _HOP]


async def serve_emulator(
    config: ChannelConfig, upstream: str, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0
) -> None:
    """Serve until SIGTERM or SIGINT. Prints `listening on HOST:PORT` when devices may come."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    emulator = Emulator(config, upstream, seed)
    server = grpc.aio.server(options=[*server_options(max_message_bytes=_MAX_MESSAGE_BYTES), *_PINGS])
    server.add_generic_rpc_handlers((emulator.handler(),))
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise UsageError(f"cannot listen on {host}:{port}: the port is taken or not ours to use") from None
    await server.start()
    print(f"listening on {host}:{bound}", flush=True)
    await stop.wait()
    await server.stop(0.5)
    await emulator.close()


def main(path: Path, upstream: str, *, host: str, port: int, seed: int) -> None:
    """`serve_emulator` with the ChannelConfig in a YAML or JSON file. Raises ConfigError."""
    try:
        config = ChannelConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    asyncio.run(serve_emulator(config, upstream, host=host, port=port, seed=seed))
    # A second signal while the interpreter ends must not turn a clean exit into a killed process.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


async def reset_emulator(address: str, epoch: float) -> None:
    """Tell the emulator at `address` that a new run begins at `epoch`, by `time.time()`."""
    async with connect(address) as channel:
        await channel.unary_unary(_RESET, None, None)(json.dumps({"epoch": epoch}).encode(), timeout=5.0)
