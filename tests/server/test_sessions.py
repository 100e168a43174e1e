"""One stream on the server, by a scripted context: how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.server.refusals import invalid
from splitpoint.server.sessions import Session


class Aborted(Exception):  # noqa: N818 - what gRPC raises out of `abort`
    pass


class Context:
    """Reads `messages`, then nothing more; a write is begun, and ends when `may_end` is set."""

    def __init__(self, *messages: bytes) -> None:
        self.messages, self.status = list(messages), ""
        self.begun: list[bytes] = []
        self.written: list[bytes] = []
        self.may_end = asyncio.Event()

    async def read(self) -> bytes:
        if self.messages:
            return self.messages.pop(0)
        return await asyncio.Future()

    async def write(self, data: bytes) -> None:
        self.begun.append(data)
        await self.may_end.wait()
        self.written.append(data)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.status = code.name
        raise Aborted


class Desk:
    """Refuses everything at once, so that the reader itself writes."""

    def admit(self, *_: Any) -> Any:
        raise invalid("request: none of ours")


def test_a_stream_that_is_hung_up_while_the_reader_writes_writes_nothing_twice() -> None:
    async def scenario() -> Context:
        context: Any = Context(pb.InferRequest(request_id=1).SerializeToString())
        session = Session(Desk(), context, 4)  # type: ignore[arg-type]
        running = asyncio.ensure_future(session.run())
        while not context.begun:
            await asyncio.sleep(0)
        session.hang_up()
        for _ in range(5):
            await asyncio.sleep(0)
        context.may_end.set()
        with pytest.raises(Aborted):
            await running
        return context

    context = asyncio.run(asyncio.wait_for(scenario(), 10.0))
    assert len(context.begun) == len(context.written) == 1
    assert pb.InferReply.FromString(context.written[0]).request_id == 1
    assert context.status == "UNAVAILABLE"
