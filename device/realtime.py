"""The agent in real time: its effects executed by a head, an encoder and gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any

import grpc
import numpy as np

from ..clock import Clock
from ..errors import DataError, RemoteError, SplitpointError
from ..policies.observation import Observation
from ..protos import splitpoint_pb2 as pb
from ..protos.charges import charged
from ..protos.client import CertificateError, LinkDown, Refused, ServiceClient, TimedOut
from .accounting import Trip
from .effects import Answer, Effect, Offload, Reading, Refine, Reply, RunBlocks
from .encoder import Encoder
from .head import Head, HeadState, advanced
from .measured import measure
from .remote_policy import RemotePolicy
from .session import Finished, Session

__all__ = ["SHORTEST_S", "RealTimeDevice"]

logger = logging.getLogger(__name__)

SHORTEST_S = 1e-3
"""With less time than this left before the fallback, nothing is sent: no server answers so fast."""

_MISFITS = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED)
"""Refusals not of one request but of all: another model or protocol runs there now."""


class RealTimeDevice:
    """Serves one request at a time; make and use it on one event loop.

    encoder   may be replaced between requests
    paced     compute takes the agent's `block_s`, not this machine's time: a simulated device's speed
    probe_s   how often a lost link is looked at again
    admit     asked by `connect`, and again once the server has refused this model: raises RemoteError while the
              server does not fit; None takes any
    remote    the session's policy, where it is the server that decides: it is asked before each request

    Losing the server costs accuracy, never an answer: every failure of the link ends in the agent's fallback.
    """

    def __init__(
        self,
        session: Session,
        head: Head,
        encoder: Encoder,
        client: ServiceClient,
        clock: Clock,
        *,
        paced: bool = False,
        probe_s: float = 0.25,
        admit: Callable[[], Awaitable[None]] | None = None,
        remote: RemotePolicy | None = None,
    ) -> None:
        self.session = session
        self.clock = clock
        self.encoder = encoder
        self._head = head
        self._admit = admit
        self._admitted = admit is None
        self._remote = remote
        self._client = client
        self._stream = client.stream()
        self._paced = paced
        self._probe_s = probe_s
        self._probing: asyncio.Task[None] | None = None
        self._request_id = 0
        self._last_error: SplitpointError | None = None

    async def connect(self) -> None:
        """Look for the server once; where it is not to be reached, answer locally and go on looking.

        Raises RemoteError, but for LinkDown and TimedOut, where the server is there and does not fit.
        """
        try:
            await self._check()
        except (LinkDown, TimedOut) as error:
            self._last_error = error
            self._look_again()

    async def serve(self, image: np.ndarray, arrival_s: float, queue: int = 0) -> Finished:
        """Answer one image, uint8 (H, W, C), exactly once; `queue` requests wait behind it."""
        self._request_id += 1
        observation = await self._consult(arrival_s, queue)
        now_s = self.clock.now()
        generator = self.session.begin(now_s, arrival_s, queue, observation)
        return self.session.finish(await self._drive(generator, image, now_s))

    async def _drive(
        self, generator: Generator[Effect, Any, Answer], image: np.ndarray, now_s: float
    ) -> Answer:
        state: HeadState | None = None
        result: Any = None
        try:
            while True:
                effect = generator.send(result)
                if type(effect) is RunBlocks:
                    state, reading = await self._run(image, state, effect, now_s)
                    now_s = self.clock.now()
                    result = now_s, reading
                else:
                    if type(effect) is Offload:
                        reply = await self._offload(image, state, effect)
                    else:
                        assert type(effect) is Refine
                        assert state is not None
                        reply = await self._refine(state, effect)
                    now_s = self.clock.now()
                    result = now_s, reply
        except StopIteration as stopped:
            answer: Answer = stopped.value
        return answer

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        if self._remote is not None and self.session.link_up:
            with suppress(RemoteError):
                await self._remote.close(self._client)

    async def _consult(self, arrival_s: float, queue: int) -> Observation | None:
        """Ask a remote policy about what is seen now, if there is the time; None where the policy is here."""
        if self._remote is None:
            return None
        observation = self.session.observe(self.clock.now(), arrival_s, queue)
        spare_s = self.session.spare_s(observation)
        if self.session.may_send and spare_s >= SHORTEST_S:
            try:
                await self._remote.ask(self._client, observation, spare_s)
            except RemoteError as error:
                self._failed(error)
        return observation

    def _failed(self, error: RemoteError) -> bool:
        """A call had no reply: look for the server where it is gone or has become another. Whether the link is lost."""
        self._last_error = error
        lost = isinstance(error, LinkDown | TimedOut | CertificateError)
        misfit = isinstance(error, Refused) and error.code in _MISFITS and self._admit is not None
        if misfit:
            self._admitted = False
        if lost or misfit:
            self._look_again()
        return lost

    def _look_again(self) -> None:
        """Take the link as down, and look at once and then every `probe_s` whether it is back."""
        self.session.link_up = False
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    @property
    def last_error(self) -> SplitpointError | None:
        """Why the last request that had to be answered here got no reply; None while all is well."""
        return self._last_error

    async def _run(
        self, image: np.ndarray, state: HeadState | None, effect: RunBlocks, begun_s: float
    ) -> tuple[HeadState, Reading | None]:
        # Inline: one core's work. The stream's replies cannot be due while the device computes.
        state = advanced(self._head, image, state, effect.stop, effect.keep)
        if self._paced:
            block_s = self.session.agent.times(effect.keep)
            await self.clock.until(begun_s + block_s[effect.stop] - block_s[effect.start])
        exit = self.session.agent.exit_at.get(effect.stop)
        return state, None if exit is None else Reading(state.prediction, state.margin, exit)

    async def _offload(self, image: np.ndarray, state: HeadState | None, effect: Offload) -> Reply | None:
        sent_s = self.clock.now()
        left_s = effect.answer_by_s - sent_s
        try:
            request, _ = self.encoder.request(
                image,
                state,
                effect.decision,
                request_id=self._request_id,
                deadline_s=left_s,
                snr_db=self.session.snr_db,
            )
        except DataError as error:
            # Such as activations that are not finite: nothing to send, but an answer all the same.
            self._last_error = error
            return None
        nbytes, channel_uses = charged(request, request.ByteSize())
        trip = Trip(sent_s, nbytes, channel_uses=channel_uses)
        self.session.sent(trip, effect.answer_by_s)
        left_s = effect.answer_by_s - self.clock.now()
        if left_s < SHORTEST_S:
            return None
        request.deadline_s = left_s
        return await self._replied(self._stream.infer(request, left_s), trip)

    async def _refine(self, state: HeadState, effect: Refine) -> Reply | None:
        sent_s = self.clock.now()
        request = self.encoder.refinement(
            state, effect.decision, request_id=self._request_id, session=effect.session
        )
        trip = Trip(sent_s, request.ByteSize())
        self.session.sent(trip, effect.answer_by_s)
        left_s = effect.answer_by_s - self.clock.now()
        if left_s < SHORTEST_S:
            return None
        return await self._replied(self._client.refine(request, left_s), trip)

    async def _replied(self, call: Awaitable[pb.InferReply], trip: Trip) -> Reply | None:
        reply = await self._asked(call, trip)
        return None if reply is None else Reply(reply.prediction, reply.margin, reply.exit, reply.session)

    async def _asked(self, call: Awaitable[pb.InferReply], trip: Trip) -> pb.InferReply | None:
        """The reply to what is on its way, measured; None where there is none, and why in `last_error`."""
        try:
            reply = await call
        except RemoteError as error:
            # Where the server refused this request, the link itself is well.
            if self._failed(error):
                self.session.lost(self.clock.now())
            return None
        self._last_error = None
        measure(trip, reply, self.clock.now())
        self.session.replied(self.clock.now())
        return reply

    async def _check(self) -> None:
        if not self._admitted and self._admit is not None:
            await self._admit()
            self._admitted = True

    async def _probe(self) -> None:
        while True:
            begun_s = self.clock.now()
            try:
                if await self._client.health():
                    await self._check()
                    self.session.link_up = True
                    self._last_error = None
                    return
            except RemoteError as error:
                if str(error) != str(self._last_error):
                    logger.warning("answering locally: %s", error)
                self._last_error = error
            await asyncio.sleep(max(0.0, self._probe_s - (self.clock.now() - begun_s)))
