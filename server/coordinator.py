"""Asking several learners until a quorum stands (SQUAD, arXiv 2601.22711): the server's side of `coordinate`.

request ─► who takes its payload and can be asked ─► order by expected time ─► coordinate ◄─► drive ─► Verdict
                                                                                              │
                                  GateLog: what was cancelled, and when ◄── voters: here, or on other servers
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import NamedTuple

import grpc

from ..errors import RemoteError
from ..models.recursion import opinion
from ..policies.coordination import Opinion, answer_within, coordinate
from ..policies.quorum import Verdict
from ..policies.quorum_driver import Silent, drive
from ..protos import splitpoint_pb2 as pb
from .gates import GateLog
from .host import Host
from .quorum_config import QuorumConfig
from .refusals import Rejected
from .voters import Voter
from .work import Sample

__all__ = ["Coordinator", "Poll"]

logger = logging.getLogger(__name__)

_LONGEST_S = 5.0
_MOST_S = 3600.0
"""Longest time for any request: gRPC counts deadlines in nanoseconds since 1970, and one beyond 2262 has passed."""


class Poll(NamedTuple):
    """A verdict, and how many learners could vote when the request came."""

    verdict: Verdict
    alive: int


class Coordinator:
    """The learners of one quorum, and who asks them. Make and use it on the event loop.

    gates    how many gates every learner has
    voters   those that can be asked, by their place in `config.learners`
    hosts    the servers behind them, opened and closed here
    log      told of asks that were cancelled; None: nobody is
    """

    def __init__(
        self,
        config: QuorumConfig,
        gates: int,
        voters: dict[int, Voter],
        hosts: Iterable[Host],
        log: GateLog | None,
    ) -> None:
        self._config, self._gates, self._voters, self._log = config, gates, voters, log
        self._hosts = tuple(hosts)
        own = [index for index, place in enumerate(config.learners) if place.on_device]
        self._on_device = own[0] if own else None

    async def open(self) -> None:
        """Look for the servers once, all at a time; those that are not there are looked for all the time."""
        await asyncio.gather(*(host.open() for host in self._hosts))

    async def close(self) -> None:
        await asyncio.gather(*(host.close() for host in self._hosts))

    def order(self, cut: int) -> list[int]:
        """The learners to ask about an input of this cut (0: an image), in this order."""
        fit = {
            index: voter
            for index, voter in self._voters.items()
            if voter.card is not None and voter.card.cut == cut
        }
        able = [index for index, voter in fit.items() if voter.available]
        if not able:
            # One that was late once may answer in time now; anybody is better than nobody.
            able = [index for index, voter in fit.items() if voter.doubtful]
        if self._config.order == "cost":
            able.sort(key=lambda index: self._voters[index].expected_s)
        return able

    @property
    def able(self) -> bool:
        """Whether there is a learner to ask, if need be one that was late."""
        return any(voter.available or voter.doubtful for voter in self._voters.values())

    def takes(self, cut: int) -> bool:
        """Whether a learner takes inputs of this cut, or may: one that is not known yet."""
        cards = [voter.card for voter in self._voters.values()]
        return any(card is None or card.cut == cut for card in cards)

    @property
    def takes_tokens(self) -> bool:
        """Whether a learner is known that starts from a shared head's tokens; the others take whole inputs only."""
        return any(voter.card is not None and voter.card.cut for voter in self._voters.values())

    def early(self, request: pb.InferRequest, sample: Sample) -> list[Opinion]:
        """What the learner on the device thinks, by the exit state that came with the request."""
        passed = request.exit_state.exits_passed
        if self._on_device is None or sample.logits is None or not passed:
            return []
        return [Opinion(self._on_device, passed - 1, opinion(sample.logits), 0)]

    async def decide(self, request: pb.InferRequest, early: Sequence[Opinion], limit_s: float | None) -> Poll:
        """The verdict on a checked request within `limit_s` seconds. Raises Rejected (UNAVAILABLE) where nobody
        has an opinion; cancelling it cancels what was asked."""
        loop = asyncio.get_running_loop()
        limit_s = _LONGEST_S if limit_s is None else min(limit_s, _MOST_S)
        until_s = loop.time() + answer_within(limit_s)
        question = pb.InferRequest()
        question.CopyFrom(request)
        for field in ("exit_state", "refine", "refine_margin"):
            question.ClearField(field)
        # What nobody knows would make a message of just the permitted size too large for the learners.
        question.DiscardUnknownFields()  # type: ignore[attr-defined,unused-ignore]

        def ask(learner: int, first: int, last: int) -> AsyncGenerator[Opinion, None]:
            return self._ask(question, learner, first, last, until_s - loop.time())

        config = self._config
        # Where all that could be asked were late, there is no answer to hold up: they have till the deadline.
        for patience_s in (config.patience_s, _LONGEST_S):
            order = self.order(request.split)
            steps = coordinate(config, order, self._gates, parallel=config.parallel, early=early)
            verdict = await drive(steps, ask, until_s=until_s, patience_s=patience_s, lost=self._lost)
            if verdict is not None or loop.time() >= until_s:
                break
        if verdict is None:
            raise Rejected(grpc.StatusCode.UNAVAILABLE, "quorum: no learner gave an opinion in time")
        return Poll(verdict, len(order) + len(early))

    async def _ask(
        self, request: pb.InferRequest, learner: int, first: int, last: int, left_s: float
    ) -> AsyncGenerator[Opinion, None]:
        voter, finished = self._voters[learner], False
        try:
            async with aclosing(voter.ask(request, first, last, left_s)) as opinions:
                async for found in opinions:
                    finished = found.gate == last
                    yield found
        except (asyncio.CancelledError, GeneratorExit):
            if self._log is not None and not finished:
                self._log.write(request=request.request_id, learner=voter.name, cancelled_s=time.monotonic())
            raise

    def _lost(self, learner: int, error: Exception) -> None:
        if not isinstance(error, RemoteError | Silent):
            logger.error("asking learner %s failed", self._voters[learner].name, exc_info=error)
        self._voters[learner].lost(error)
