"""One server that a coordinator asks: its connection, its health, and the learners that it says it runs.

A server that failed, hangs or refuses is suspected: nothing is asked of it until its health says SERVING again.
Healthy ones are probed too, so that most failures are noticed before a request has to wait for one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping

from ..errors import RemoteError
from ..protos import splitpoint_pb2 as pb
from ..protos.client import ServiceClient, Tls

__all__ = ["Host"]

logger = logging.getLogger(__name__)


class Host:
    """One server with learners: its connection, its health, and what it says that it runs.

    probe_s   pause between two looks at its health
    serving   it may be asked; `doubtful`: it was late, and not yet looked at since
    """

    def __init__(self, address: str, probe_s: float, tls: Tls | None = None) -> None:
        self.address, self.serving, self.doubtful = address, False, False
        self.learners: Mapping[str, pb.Learner] = {}
        self.client = ServiceClient(address, tls=tls)
        self._probe_s = probe_s
        self._suspected_s = -math.inf
        self._complaint = ""
        self._described = False
        self._probing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Look once, then go on looking in the background."""
        await self._look()
        self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self.client.close()

    def suspect(self, error: Exception, *, late: bool = False) -> None:
        """Ask nothing here until its health, asked from now on, says SERVING; `late`: unless nobody else is left."""
        self.serving, self.doubtful, self._suspected_s = False, late, time.monotonic()
        self._say(f"{self.address} is not asked for now: {error}")

    def ask_again(self) -> None:
        """What it says that it runs is doubted: ask for it anew."""
        self._described = False

    async def _probe(self) -> None:
        while True:
            begun_s = time.monotonic()
            try:
                await self._look()
            except Exception:
                logger.exception("looking at %s failed", self.address)
            await asyncio.sleep(max(0.01, self._probe_s - (time.monotonic() - begun_s)))

    async def _look(self) -> None:
        begun_s = time.monotonic()
        patience_s = max(self.client.timeouts.health, 2.0 * self._probe_s)
        try:
            healthy = await self.client.health(patience_s)
            if healthy and not (self.serving and self._described):
                # Whoever answers now may have been started anew, with other learners.
                description = await self.client.describe(patience_s)
                self.learners = {card.name: card for card in description.learners}
                self._described = True
        except RemoteError as error:
            self.suspect(error)
            return
        if not healthy:
            self.suspect(RemoteError("its health is not SERVING"))
        elif self._suspected_s < begun_s:
            if not self.serving and self._complaint:
                logger.warning("%s is asked again", self.address)
            self.serving, self.doubtful, self._complaint = True, False, ""

    def _say(self, complaint: str) -> None:
        # Once, until it serves again.
        if not self._complaint:
            logger.warning("%s", complaint)
            self._complaint = complaint
