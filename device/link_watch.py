"""Whether the server is there and fits: a lost one is looked for until it is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import grpc

from ..clock import Clock
from ..errors import RemoteError, SplitpointError
from ..protos.client import CertificateError, LinkDown, Refused, ServiceClient, TimedOut
from .session import Session

__all__ = ["LinkWatch"]

logger = logging.getLogger(__name__)

_MISFITS = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED)
"""Refusals not of one request but of all: another model or protocol runs there now."""


class LinkWatch:
    """Keeps the session's `link_up`; make and use it on one event loop.

    probe_s     how often a lost link is looked at again
    admit       raises RemoteError while the server does not fit; asked by `connect`, and again once the connection
                broke or the server has refused this model: another may stand there by then. None takes any
    last_error  why the last request that had to be answered here got no reply; None while all is well
    """

    def __init__(
        self,
        session: Session,
        client: ServiceClient,
        clock: Clock,
        probe_s: float,
        admit: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self.last_error: SplitpointError | None = None
        self._session = session
        self._client = client
        self._clock = clock
        self._probe_s = probe_s
        self._admit = admit
        self._admitted = False
        self._probing: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Look for the server once; where it is not to be reached, go on looking.

        Raises RemoteError, but for LinkDown and TimedOut, where the server is there and does not fit.
        """
        try:
            await self._check()
        except (LinkDown, TimedOut) as error:
            self.last_error = error
            self._look_again()

    def failed(self, error: RemoteError) -> bool:
        """A call had no reply: look for the server where it is gone or has become another. Whether the link is lost."""
        self.last_error = error
        lost = isinstance(error, LinkDown | TimedOut | CertificateError)
        misfit = isinstance(error, Refused) and error.code in _MISFITS and self._admit is not None
        if misfit or isinstance(error, LinkDown):
            self._admitted = False
        if lost or misfit:
            self._look_again()
        return lost

    async def close(self) -> None:
        """Look no longer."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    def _look_again(self) -> None:
        """Take the link as down, and look at once and then every `probe_s` whether it is back."""
        self._session.link_up = False
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def _check(self) -> None:
        if not self._admitted and self._admit is not None:
            await self._admit()
            self._admitted = True

    async def _probe(self) -> None:
        asked: set[asyncio.Task[bool]] = set()
        try:
            while not await self._answered(asked):
                pass
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        # With no wait behind it: who finds the link lost from here on begins to look anew.
        self._session.link_up = True
        # A refusal by a server that fits all the same was the request's fault, and the next one's may be the same.
        if not isinstance(self.last_error, Refused):
            self.last_error = None

    async def _answered(self, asked: set[asyncio.Task[bool]]) -> bool:
        """Ask once more, and wait `probe_s` at most until one of those asked finds the server there.

        Earlier questions may still be out: an outage may have swallowed them.
        """
        asked.add(asyncio.create_task(self._is_back()))
        next_s = self._clock.now() + self._probe_s
        while asked and (left_s := next_s - self._clock.now()) > 0.0:
            done, _ = await asyncio.wait(asked, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            asked -= done
            if any(task.result() for task in done):
                return True
        await asyncio.sleep(max(0.0, next_s - self._clock.now()))
        return False

    async def _is_back(self) -> bool:
        try:
            if not await self._client.health():
                return False
            await self._check()
        except RemoteError as error:
            if str(error) != str(self.last_error):
                logger.warning("answering locally: %s", error)
            self.last_error = error
            return False
        return True
