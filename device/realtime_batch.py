"""Requests that come together, in real time: several images, at best one message."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from ..codec.adc import unmerge
from ..protos import splitpoint_pb2 as pb
from .accounting import Trip
from .effects import Answer, BatchEffect, OffloadBatch, Reply, RunBatch, RunBlocks
from .head import HeadState
from .realtime import RealTimeDevice
from .session import Finished

__all__ = ["BatchDevice"]


class BatchDevice(RealTimeDevice):
    """A RealTimeDevice that takes batches too. A batch is merged (ADC) where the Decision lets it be."""

    async def serve_batch(
        self, images: Sequence[np.ndarray], arrival_s: float, queue: int = 0
    ) -> list[Finished]:
        """Answer images that came together, each exactly once; `queue` requests wait behind them."""
        finished: list[Finished] = []
        while len(finished) < len(images):
            finished += await self.serve_next(images[len(finished) :], arrival_s, queue)
        return finished

    async def serve_next(
        self, images: Sequence[np.ndarray], arrival_s: float, queue: int = 0
    ) -> list[Finished]:
        """By one Decision, answer the first of `images`: as many as one message may merge where it lets them be merged,
        else one alone.

        Whole inputs, as a quorum of other networks takes them, are never merged.
        """
        self._request_id += 1
        behind = queue + len(images) - 1
        observation = await self._consult(arrival_s, behind)
        now_s = self.clock.now()
        together = 1 if self.encoder.whole_input else len(images)
        generator: Any = self.session.begin_batch(now_s, arrival_s, behind, together, observation)
        batch = self.session.batch
        if batch == 1:
            return [self.session.finish(await self._drive(generator, images[0], now_s))]
        answers = await self._drive_batch(generator, images[:batch], now_s)
        # Ids count requests, not messages.
        self._request_id += batch - 1
        return self.session.finish_batch(answers)

    async def _drive_batch(
        self, generator: Generator[BatchEffect, Any, list[Answer]], images: Sequence[np.ndarray], now_s: float
    ) -> list[Answer]:
        states: list[HeadState | None] = [None] * len(images)
        result: Any = None
        try:
            while True:
                effect = generator.send(result)
                if type(effect) is RunBatch:
                    readings = []
                    for member in effect.members:
                        run = RunBlocks(effect.start, effect.stop, effect.keep)
                        states[member], reading = await self._run(images[member], states[member], run, now_s)
                        readings.append(reading)
                        # Paced: the next one begins when this one should have ended.
                        now_s = self.clock.now()
                    result = now_s, readings
                else:
                    assert type(effect) is OffloadBatch
                    replies = await self._tried(self._offload_batch(states, effect))
                    now_s = self.clock.now()
                    result = now_s, replies
        except StopIteration as stopped:
            answers: list[Answer] = stopped.value
        return answers

    async def _offload_batch(
        self, states: Sequence[HeadState | None], effect: OffloadBatch
    ) -> list[Reply] | None:
        sent_s = self.clock.now()
        chosen = [state for state in (states[member] for member in effect.members) if state is not None]
        request, groups = self.encoder.merged_request(
            chosen, effect.decision, request_id=self._request_id, deadline_s=effect.answer_by_s - sent_s
        )
        trip = Trip(sent_s, request.ByteSize())
        reply = await self._exchange(
            self._stream.infer, request, trip, effect.answer_by_s, answers=int(groups.max()) + 1
        )
        return None if reply is None else unmerge(groups, _replies(reply))


def _replies(reply: pb.InferReply) -> list[Reply]:
    """The answers of all groups, in order."""
    first = Reply(reply.prediction, reply.margin, reply.exit)
    return [first, *(Reply(group.prediction, group.margin, group.exit) for group in reply.group)]
