"""Many requests in flight on one InferStream, each awaited by its request_id.

    infer ─► wire ─► reader ─► the future under reply.request_id ─► infer returns
        └─► outgoing ─► writer ─► wire, while an earlier write is under way

A stream that fails takes its pending requests with it (`LinkDown`); the next request opens another. A
server that drains says so with a reply without request_id: the stream is then half-closed, what is on it is
still answered, and later requests go to a stream of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from . import splitpoint_pb2 as pb
from .failures import BROKEN, LinkDown, Refused, TimedOut, from_status
from .options import MAX_MESSAGE_BYTES

__all__ = ["InferStream"]

_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]

Call = grpc.aio.StreamStreamCall[bytes, bytes]


class _Begun:
    """A coroutine run up to its first wait at once, on its maker's turn; awaiting it runs the rest.

    What asyncio's eager tasks are, for Pythons that lack them: a write then leaves without waiting for its
    task's turn. Raises what the coroutine raises before its first wait.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._first: Any = None
        self._over = False
        try:
            self._first = coroutine.send(None)
        except StopIteration:
            self._over = True

    def __await__(self) -> Generator[Any, Any, None]:
        if self._over:
            return
        waits_for = self._first
        try:
            while True:
                try:
                    found = yield waits_for
                except BaseException as error:
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(found)
        except StopIteration:
            return


class _Life:
    """One InferStream RPC from its opening to its end."""

    def __init__(self, call: Call, address: str, until: float) -> None:
        self.call, self.address, self.until = call, address, until
        self.usable = True
        self.pending: dict[int, asyncio.Future[pb.InferReply]] = {}
        self._outgoing: dict[int, bytes] = {}
        self._begun: _Begun | None = None
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.Future[None] | None = None
        self.tasks = [self._loop.create_task(self._read()), self._loop.create_task(self._write())]

    def send(self, key: int, data: bytes) -> None:
        if self._wake is None or self._wake.done():
            self._outgoing[key] = data
            return
        # The writer has nothing to do: the write starts here and now, and the writer sees it through.
        with suppress(*BROKEN):
            self._begun = _Begun(self.call.write(data))
            self._rouse()

    def forget(self, key: int) -> None:
        """Nobody waits for this one any more: if it has not left yet, the next ones need not wait for it."""
        del self.pending[key]
        self._outgoing.pop(key, None)

    def retire(self) -> None:
        """Take no more requests; those on the stream are still answered."""
        self.usable = False
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _write(self) -> None:
        # A task of its own: a write that flow control holds back must not hold its caller past the
        # deadline, and cancelling a write cancels the whole stream.
        outgoing, call = self._outgoing, self.call
        try:
            while self.usable or outgoing or self._begun is not None:
                if self._begun is not None:
                    begun, self._begun = self._begun, None
                    await begun
                elif outgoing:
                    await call.write(outgoing.pop(next(iter(outgoing))))
                else:
                    self._wake = self._loop.create_future()
                    await self._wake
            await call.done_writing()
        except BROKEN:
            pass  # the reader learns the status and tells everybody

    async def _read(self) -> None:
        pending, call = self.pending, self.call
        details = ""
        try:
            # At the end of the stream stands a sentinel that is no bytes.
            while isinstance(data := await call.read(), bytes):
                reply = pb.InferReply.FromString(data)
                if not reply.HasField("request_id"):
                    # Either the server drains, or it could not even read whose request it refuses.
                    if reply.error.code == _UNAVAILABLE:
                        self.retire()
                elif (future := pending.get(reply.request_id)) is not None and not future.done():
                    future.set_result(reply)
                    # Whoever waited for it goes on first: his answer is due, the next read is not.
                    await asyncio.sleep(0)
        except grpc.aio.AioRpcError:
            pass
        except DecodeError:
            details = "undecodable reply"
            call.cancel()
        finally:
            self.usable = False
            self._rouse()
        code = await call.code()
        self.fail(code, details or await call.details() or "stream closed")

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        if code is grpc.StatusCode.OK:
            code = grpc.StatusCode.UNAVAILABLE
        for future in self.pending.values():
            if not future.done():
                future.set_exception(_broken(code, details, self.address))

    async def close(self) -> None:
        self.usable = False
        self.call.cancel()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.fail(grpc.StatusCode.CANCELLED, "the client was closed")


def _broken(code: grpc.StatusCode, details: str, address: str) -> Exception:
    # The end of the stream is nobody's deadline, and a write that fails on a dead connection reads as INTERNAL.
    if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        return LinkDown(f"{address}: the stream broke: {details}")
    return from_status(code, details, address)


class InferStream:
    """`await infer(request, timeout)` any number of times at once. Made by `ServiceClient.stream()`."""

    def __init__(self, open_call: Callable[[float], Call], address: str, life_s: float) -> None:
        self._open_call, self._address, self._life_s = open_call, address, life_s
        self._life: _Life | None = None
        self._retired: list[_Life] = []

    async def infer(self, request: pb.InferRequest, timeout: float) -> pb.InferReply:
        """The server's reply to `request`, within `timeout` seconds.

        Raises TimedOut; LinkDown when the stream breaks or cannot be opened; Refused when the reply is an
        error (a bad request, a full queue, a passed deadline); CertificateError.
        """
        loop = asyncio.get_running_loop()
        life = self._life
        if life is None or not life.usable or loop.time() > life.until:
            life = self._reopen(loop)
        data = request.SerializeToString()
        if len(data) > MAX_MESSAGE_BYTES:
            message = f"a request of {len(data)} bytes; at most {MAX_MESSAGE_BYTES} may be sent"
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        key = request.request_id
        if key in life.pending:
            raise ValueError(f"request_id {key} is already in flight on this stream")
        future: asyncio.Future[pb.InferReply] = loop.create_future()
        life.pending[key] = future
        timer = loop.call_later(timeout, _expire, future, self._address, timeout)
        try:
            life.send(key, data)
            reply = await future
        finally:
            timer.cancel()
            life.forget(key)
        if reply.HasField("error"):
            raise from_status(reply.error.code, reply.error.message, self._address)
        return reply

    def _reopen(self, loop: asyncio.AbstractEventLoop) -> _Life:
        self._retired = [old for old in self._retired if not all(task.done() for task in old.tasks)]
        if self._life is not None:
            self._life.retire()
            self._retired.append(self._life)
        # Requests stop entering at 90 % of a stream's life, so that the last of them are answered on it.
        self._life = _Life(self._open_call(self._life_s), self._address, loop.time() + 0.9 * self._life_s)
        return self._life

    async def close(self) -> None:
        """Cancel the stream; requests on it fail with LinkDown."""
        for life in (*self._retired, *([self._life] if self._life else [])):
            await life.close()
        self._life, self._retired = None, []


def _expire(future: asyncio.Future[pb.InferReply], address: str, timeout: float) -> None:
    if not future.done():
        future.set_exception(TimedOut(f"{address}: no answer within {timeout:g} s"))
