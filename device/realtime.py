"""The agent in real time: its effects executed by a head, an encoder and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ..clock import Clock
from ..errors import RemoteError, SplitpointError
from ..policies.observation import Observation
from ..protos import splitpoint_pb2 as pb
from ..protos.charges import charged
from ..protos.client import ServiceClient, TimedOut
from .accounting import Trip
from .effects import Answer, Effect, Offload, Reading, Refine, Reply, RunBlocks
from .encoder import Encoder
from .head import Head, HeadState, advanced
from .link_watch import LinkWatch
from .measured import check, measure
from .remote_policy import RemotePolicy
from .session import Session

__all__ = ["RealTimeDevice"]

T = TypeVar("T")

_SHORTEST_S = 1e-3
"""With less time than this left before the fallback, nothing is sent: no server answers so fast."""


class RealTimeDevice:
    """Executes the effects of one request at a time (`BatchDevice` serves by it); make and use it on one event loop.

    encoder   may be replaced between requests
    paced     compute takes the agent's `block_s`, not this machine's time: a simulated device's speed
    probe_s, admit   as of `LinkWatch`
    remote    the session's policy, where it is the server that decides: it is asked before each request
    aside     where to compute while others share the event loop, whose deadlines must not wait for it; None: in line

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
        aside: Callable[[], Executor | None] = lambda: None,
    ) -> None:
        self.session = session
        self.clock = clock
        self.encoder = encoder
        self._head = head
        self._remote = remote
        self._client = client
        self._stream = client.stream()
        self._watch = LinkWatch(session, client, clock, probe_s, admit)
        self._paced = paced
        self._aside = aside
        self._request_id = 0

    async def connect(self) -> None:
        """As of `LinkWatch`: look for the server once, and raise RemoteError where it is there and does not fit."""
        await self._watch.connect()

    @property
    def last_error(self) -> SplitpointError | None:
        """Why the last request that had to be answered here got no reply; None while all is well."""
        return self._watch.last_error

    async def close(self) -> None:
        """Look for the server no longer, tell it what it has not heard yet, and end the stream."""
        await self._watch.close()
        if self._remote is not None and self.session.link_up:
            with suppress(RemoteError):
                await self._remote.close(self._client)
        await self._stream.close()

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
                        reply = await self._tried(self._offload(image, state, effect))
                    else:
                        assert type(effect) is Refine
                        assert state is not None
                        reply = await self._tried(self._refine(state, effect))
                    now_s = self.clock.now()
                    result = now_s, reply
        except StopIteration as stopped:
            answer: Answer = stopped.value
        return answer

    async def _consult(self, arrival_s: float, queue: int) -> Observation | None:
        """Ask a remote policy about what is seen now, if there is the time; None where the policy is here."""
        if self._remote is None:
            return None
        observation = self.session.observe(self.clock.now(), arrival_s, queue)
        spare_s = self.session.spare_s(observation)
        if self.session.may_send and spare_s >= _SHORTEST_S:
            try:
                await self._remote.ask(self._client, observation, spare_s)
            except RemoteError as error:
                self._watch.failed(error)
        return observation

    async def _run(
        self, image: np.ndarray, state: HeadState | None, effect: RunBlocks, begun_s: float
    ) -> tuple[HeadState, Reading | None]:
        work = partial(advanced, self._head, image, state, effect.stop, effect.keep)
        # In line: one core's work. The stream's replies cannot be due while the device computes.
        threads = self._aside()
        state = work() if threads is None else await asyncio.get_running_loop().run_in_executor(threads, work)
        if self._paced:
            block_s = self.session.agent.times(effect.keep)
            await self.clock.until(begun_s + block_s[effect.stop] - block_s[effect.start])
        exit = self.session.agent.exit_at.get(effect.stop)
        return state, None if exit is None else Reading(state.prediction, state.margin, exit)

    async def _tried(self, sending: Awaitable[T | None]) -> T | None:
        """What comes of it; None where nothing could be encoded, and why in `last_error`.

        Activations may not be finite, a Decision may ask for what the network lacks: that costs no answer.
        """
        try:
            return await sending
        except SplitpointError as error:
            self._watch.last_error = error
            return None

    async def _offload(self, image: np.ndarray, state: HeadState | None, effect: Offload) -> Reply | None:
        sent_s = self.clock.now()
        request, _ = self.encoder.request(
            image,
            state,
            effect.decision,
            request_id=self._request_id,
            deadline_s=effect.answer_by_s - sent_s,
            snr_db=self.session.snr_db,
        )
        nbytes, channel_uses = charged(request, request.ByteSize())
        trip = Trip(sent_s, nbytes, channel_uses=channel_uses)
        reply = await self._exchange(self._stream.infer, request, trip, effect.answer_by_s)
        if reply is None:
            return None
        # A session that nobody allowed for means nothing.
        session = reply.session if request.HasField("refine_margin") else 0
        return Reply(reply.prediction, reply.margin, reply.exit, session)

    async def _refine(self, state: HeadState, effect: Refine) -> Reply | None:
        sent_s = self.clock.now()
        request = self.encoder.refinement(
            state, effect.decision, request_id=self._request_id, session=effect.session
        )
        trip = Trip(sent_s, request.ByteSize())
        reply = await self._exchange(self._client.refine, request, trip, effect.answer_by_s)
        return None if reply is None else Reply(reply.prediction, reply.margin, reply.exit)

    async def _exchange(
        self,
        send: Callable[[Any, float], Awaitable[pb.InferReply]],
        request: pb.InferRequest | pb.RefineRequest,
        trip: Trip,
        answer_by_s: float,
        answers: int = 1,
    ) -> pb.InferReply | None:
        """Send, where there is still time; the reply, measured, or None, and why in `last_error`."""
        left_s = answer_by_s - self.clock.now()
        if left_s < _SHORTEST_S:
            self._watch.last_error = TimedOut(f"{self._client.address}: no time was left to send in")
            return None
        self.session.sent(trip, answer_by_s)
        if isinstance(request, pb.InferRequest):
            request.deadline_s = left_s
        try:
            reply = await send(request, left_s)
            check(reply, self._head.card, answers)
        except RemoteError as error:
            # Where the server refused this request, or answers nonsense, the link itself is well.
            if self._watch.failed(error):
                self.session.lost(self.clock.now())
            return None
        self._watch.last_error = None
        measure(trip, reply, self.clock.now())
        self.session.replied(self.clock.now())
        return reply
