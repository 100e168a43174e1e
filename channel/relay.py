"""One direction of a relayed call.

    read ─► carry ─► (on the air, each message by itself) ─► outgoing ─► write

Whatever happens to a call, nothing of it is left behind: timers that fire later find the relay closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

__all__ = ["Carry", "Delivered", "Relay"]

MAX_MESSAGES = 256
MAX_BYTES = 16 * 1024 * 1024
LINGER_S = 0.1

Delivered = Callable[[bytes | None], None]
"""Called with a message as it arrives, or with None where it was swallowed; later calls are ignored."""

Carry = Callable[[bytes, Delivered], None]


class Relay:
    """Reads until the end of the stream, and writes messages as they arrive.

    read    gives bytes, and anything else at the end of the stream
    carry   takes a message and what to call when it has arrived

    At most MAX_MESSAGES, and MAX_BYTES but for a single message, are read and not yet written. Where the
    writing is stuck nothing more is read, so that flow control holds back the sender.
    """

    def __init__(
        self, read: Callable[[], Awaitable[Any]], carry: Carry, write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._read, self._carry, self._write = read, carry, write
        self._loop = asyncio.get_running_loop()
        self._outgoing: deque[bytes] = deque()
        self._on_air: dict[int, int] = {}
        self._bytes = self._count = 0
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._ended = False
        self.swallowed = 0
        """Messages that never arrived."""
        self.broken = False
        """Whether the reading ended in an error. What was on the air then has LINGER_S to arrive."""

    async def run(self) -> None:
        """Return when everything is written, or given up. Raises what `write` raises."""
        reading = self._loop.create_task(self._reading())
        writing = self._loop.create_task(self._writing())
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                await asyncio.wait((writing,), timeout=LINGER_S if self.broken else None)
            if writing.done():
                writing.result()
        finally:
            reading.cancel()
            writing.cancel()
            self._on_air.clear()
            self._outgoing.clear()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _reading(self) -> None:
        read, carry, on_air = self._read, self._carry, self._on_air
        try:
            while isinstance(data := await read(), bytes):
                self._count += 1
                self._bytes += len(data)
                on_air[self._count] = len(data)
                carry(data, partial(self._arrive, self._count))
                while self._full():
                    self._room = self._loop.create_future()
                    await self._room
        except Exception:  # the call's status says why
            self.broken = True
        finally:
            self._ended = True
            _rouse(self._wake)

    def _full(self) -> bool:
        waiting = len(self._on_air) + len(self._outgoing)
        return waiting >= MAX_MESSAGES or (waiting > 1 and self._bytes >= MAX_BYTES)

    def _arrive(self, number: int, data: bytes | None) -> None:
        size = self._on_air.pop(number, None)
        if size is None:
            return
        self._bytes -= size
        if data is None:
            self.swallowed += 1
            _rouse(self._room)
        else:
            self._bytes += len(data)
            self._outgoing.append(data)
        _rouse(self._wake)

    async def _writing(self) -> None:
        outgoing, write = self._outgoing, self._write
        while True:
            while outgoing:
                data = outgoing[0]
                await write(data)
                outgoing.popleft()
                self._bytes -= len(data)
                _rouse(self._room)
            if self._ended and not self._on_air:
                return
            self._wake = self._loop.create_future()
            await self._wake


def _rouse(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
