"""One direction of a stream: each message is carried by itself, and written when it has arrived."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ..protos.failures import BROKEN

__all__ = ["relay"]


async def relay(read: Any, carry: Any, write: Any) -> None:
    """Messages from `read` by `carry`, which may swallow one (None), to `write`.

    Returns at the end of the stream, when all of them are written.
    """
    lock = asyncio.Lock()

    async def one(data: bytes) -> None:
        carried = await carry(data)
        if carried is None:
            return
        # Whoever it was for may have gone meanwhile; the call's own status says so.
        with contextlib.suppress(*BROKEN):
            async with lock:
                task = asyncio.current_task()
                assert task is not None
                on_its_way.discard(task)
                await write(carried)

    # What is being written is waited for, and not cancelled: after a first message whose end it has not seen gRPC
    # sends the beginning of a stream once more, which fails, and with it the status that would tell the caller.
    on_its_way: set[asyncio.Task[None]] = set()
    under_way: set[asyncio.Task[None]] = set()
    try:
        # At the end of a stream stands a sentinel that is no bytes.
        while isinstance(data := await read(), bytes):
            task = asyncio.create_task(one(data))
            for tasks in (on_its_way, under_way):
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await asyncio.gather(*under_way)
    finally:
        for task in on_its_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
