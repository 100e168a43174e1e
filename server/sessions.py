"""One InferStream on the server: requests are read as they come, answers leave as they are ready.

read ─► desk.admit ─► the desk's work ─► finish ─► outgoing ─► write
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import grpc

from ..protos import splitpoint_pb2 as pb
from .batching import Job
from .desk import Desk, taken_in
from .refusals import Rejected, abort, shutting_down
from .validation import parse
from .work import Answer

__all__ = ["Session"]

logger = logging.getLogger(__name__)


class Session:
    """Reads, writes and remembers the jobs of one stream. `max_open` bounds what is read but not answered."""

    def __init__(self, desk: Desk, context: grpc.aio.ServicerContext, max_open: int) -> None:
        self._desk, self._context, self._max_open = desk, context, max_open
        self._loop = asyncio.get_running_loop()
        self._jobs: set[Job] = set()
        self._outgoing: deque[bytes] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._ended = self._hung_up = self._writing = self._admitting = self._reader_writes = False
        self._reader = self._loop.create_task(self._read())
        self._writer = self._loop.create_task(self._write())

    async def run(self) -> None:
        """Serve until the client half-closes or `hang_up`, and everything read is answered."""
        try:
            await asyncio.wait((self._reader, self._writer), return_when=asyncio.FIRST_COMPLETED)
            self._ended = True
            self._rouse()
            await asyncio.wait((self._writer,))
        finally:
            for task in (self._reader, self._writer):
                task.cancel()
                task.add_done_callback(_log_failure)
            for job in tuple(self._jobs):
                job.cancel()
        if self._hung_up:
            await abort(self._context, shutting_down())

    def announce_shutdown(self) -> None:
        """Ask the client to half-close; whatever it sends until then is still answered."""
        self._send(_error_reply(shutting_down(), None))

    def hang_up(self) -> None:
        """Read no more, answer what was read, and end the stream as UNAVAILABLE."""
        self._hung_up = True
        # What is being written is written to its end: cancelled, it would be written once more.
        if not self._reader_writes:
            self._reader.cancel()

    def finish(self, job: Job, outcome: Answer | Rejected) -> None:
        """The desk's `done`: an answer, or an error, leaves for the client."""
        self._jobs.discard(job)
        if isinstance(outcome, Rejected):
            self._send(_error_reply(outcome, job.request_id))
        else:
            self._send(self._desk.reply(job, outcome).SerializeToString())

    async def _read(self) -> None:
        context, admit, finish = self._context, self._desk.admit, self.finish
        # At the end of the stream stands a sentinel that is no bytes.
        while isinstance(data := await context.read(), bytes):
            # What is answered within `admit` leaves below: the writer need not wake for it.
            self._admitting = True
            try:
                job = taken_in(admit, data, finish, None)
                if not job.finished:
                    self._jobs.add(job)
            except Rejected as refusal:
                self._send(_error_reply(refusal, _request_id(data)))
            finally:
                self._admitting = False
            if self._outgoing and not self._writing:
                self._reader_writes = True
                await self._flush()
                self._reader_writes = False
                if self._hung_up:
                    return
            while len(self._jobs) + len(self._outgoing) >= self._max_open:
                self._room = self._loop.create_future()
                await self._room

    async def _write(self) -> None:
        while True:
            if not self._writing:
                await self._flush()
            if self._ended and not self._jobs and not self._outgoing:
                return
            self._wake = self._loop.create_future()
            await self._wake

    async def _flush(self) -> None:
        # One write at a time: reader and writer take turns, so that an answer that is there at once needs
        # no other task to leave.
        outgoing, context = self._outgoing, self._context
        self._writing = True
        try:
            while outgoing:
                await context.write(outgoing[0])
                outgoing.popleft()
                if self._room is not None and not self._room.done():
                    self._room.set_result(None)
        finally:
            self._writing = False

    def _send(self, data: bytes) -> None:
        self._outgoing.append(data)
        if not self._writing and not self._admitting:
            self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _log_failure(task: asyncio.Task[None]) -> None:
    # A client that vanished breaks the read or the write under way; nobody is left to tell.
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("a stream broke: %r", error)


def _request_id(data: bytes) -> int | None:
    """The id of a refused request, None where it cannot be read."""
    try:
        request = parse(pb.InferRequest, data)
    except Rejected:
        return None
    return request.request_id if request.HasField("request_id") else None


def _error_reply(refusal: Rejected, request_id: int | None) -> bytes:
    error = pb.Error(code=refusal.code.value[0], message=str(refusal))
    return pb.InferReply(request_id=request_id, error=error).SerializeToString()
