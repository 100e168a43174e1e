"""How a stream is carried both ways when one end goes in the middle."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import grpc
import pytest

from splitpoint.channel.relay import relay


def test_a_reply_that_is_being_written_is_written_to_its_end() -> None:
    """What is still on its way is given up with the stream; gRPC takes no status in the middle of a first message."""

    async def scenario() -> list[bytes]:
        messages = iter((b"written", b"on its way"))
        begun, written = asyncio.Event(), []

        async def read() -> bytes:
            if (data := next(messages, None)) is not None:
                return data
            await begun.wait()
            raise ConnectionResetError

        async def carry(data: bytes) -> bytes:
            return data if data == b"written" else await asyncio.Future()

        async def write(data: bytes) -> None:
            begun.set()
            await asyncio.sleep(0.05)
            written.append(data)

        with pytest.raises(ConnectionResetError):
            await relay(read, carry, write)
        return written

    assert asyncio.run(asyncio.wait_for(scenario(), 10.0)) == [b"written"]


def test_a_reply_to_a_device_that_dies_as_it_is_written_is_told_to_nobody() -> None:
    """What gRPC raises then is nobody's to hear of; asyncio would write about a task that failed."""
    told: list[Any] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        messages = iter((b"reply",))

        async def read() -> bytes | None:
            await asyncio.sleep(0.01)
            return next(messages, None)

        async def carry(data: bytes) -> bytes:
            return data

        async def write(data: bytes) -> None:
            raise grpc.aio.InternalError('Failed "execute_batch"')

        await relay(read, carry, write)
        gc.collect()

    asyncio.run(asyncio.wait_for(scenario(), 10.0))
    assert told == []
