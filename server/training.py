"""Split learning's side of the server: a bounded table of sessions, and one thread that trains them.

A session lives in memory, its checkpoints in a folder of its own. One that is not heard of for `idle_s` makes room
when another wants it; its device goes on from the last checkpoint. What is served by Infer does not change.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from ..codec.errors import PayloadError
from ..errors import DataError, UsageError
from ..models.card import ModelCard
from ..models.split_plan import SplitPlan
from ..models.vit import SplitViT
from ..protos import splitpoint_pb2 as pb
from ..whole_file import check_writable
from . import train_validation as validation
from .config import TrainingConfig
from .refusals import Rejected, bad_payload, failed, unmet
from .train_session import TailSession
from .validation import parse

__all__ = ["TrainService"]

logger = logging.getLogger(__name__)

_WAITING = 16  # requests of all sessions in work or waiting for the thread
_FINISHED_S = -math.inf  # when a finished session was heard of last: any other comes before it


class TrainService:
    """Answers TrainStep.

    card, make  the network's card, and what makes a fresh copy of the network
    threads     torch's threads in the training thread

    DataError where nothing can be written to the folder of `config`.
    """

    def __init__(
        self, card: ModelCard, make: Callable[[], SplitViT], config: TrainingConfig, threads: int = 1
    ) -> None:
        check_writable(config.folder / "tail.safetensors", "trained tail")
        self._card, self._make, self._config = card, make, config
        self._sessions: dict[str, tuple[TailSession, float]] = {}
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, "training", initializer=_set_threads, initargs=(threads,))

    async def step(self, data: bytes) -> bytes:
        """One request, both as bytes. Raises Rejected."""
        if self._waiting >= _WAITING:
            raise Rejected(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._waiting} training steps are waiting")
        self._waiting += 1
        work = asyncio.get_running_loop().run_in_executor(self._pool, self.answer, data)
        work.add_done_callback(self._ended)
        # A caller who gives up leaves the step to its end: its reply is kept for when the device asks again.
        return await asyncio.shield(work)

    def _ended(self, work: asyncio.Future[bytes]) -> None:
        self._waiting -= 1
        if not work.cancelled():
            work.exception()  # seen, also where nobody waits any more

    def answer(self, data: bytes) -> bytes:
        """`step`, in the calling thread, which must always be the same one. Raises Rejected."""
        request = parse(pb.TrainStepRequest, data)
        validation.check_header(request, self._card)
        kind = validation.kind_of(request)
        try:
            return self._answer(kind, request, data)
        except PayloadError as error:
            raise bad_payload(error) from None
        except DataError as error:  # a file of this server, to be named in its log only
            logger.error("session %s: %s", request.session, error)
            raise failed() from None

    def session(self, name: str) -> TailSession:
        """A session in memory, which counts as having been heard of unless it is finished. Rejected where it is not
        known."""
        if name not in self._sessions:
            raise Rejected(
                grpc.StatusCode.NOT_FOUND, "session: not known here (any more); begin it with its plan"
            )
        session, heard_s = self._sessions[name]
        if heard_s != _FINISHED_S:
            self._sessions[name] = session, time.monotonic()
        return session

    def close(self) -> None:
        """Finish the step in work; refuse the others."""
        self._pool.shutdown(cancel_futures=True)

    def _answer(self, kind: str, request: pb.TrainStepRequest, data: bytes) -> bytes:
        if kind == "plan":
            return self._open(request).SerializeToString()
        session = self.session(request.session)
        # What was done already is answered again; anything else must be the next thing to do.
        key = (request.step, kind, zlib.crc32(data))
        if session.last is not None and session.last[0] == key:
            return session.last[1]
        if request.step != session.step:
            raise unmet(f"step: the session stands at {session.step}, not {request.step}")
        reply = self._do(kind, request, session).SerializeToString()
        session.last = key, reply
        if kind == "finish":  # its place is free; until it is taken, a repeated request is still answered
            self._sessions[request.session] = session, _FINISHED_S
        return reply

    def _do(self, kind: str, request: pb.TrainStepRequest, session: TailSession) -> pb.TrainStepReply:
        plan = session.plan
        if kind == "batch":
            if session.step >= plan.steps:
                raise unmet(f"step: the plan's {plan.steps} steps are taken")
            shape, indexed = session.decoder.wire_shape(request.outputs), session.decoder.indexed
            return session.learn(validation.check_batch(request, plan, self._card, shape, indexed))
        if kind == "gradient":
            rows = session.pending_rows
            if rows is None:
                raise unmet("logits_gradient: no logits were given")
            gradient = validation.check_gradient(request, rows, self._card.class_count)
            return session.learn_from_logits(gradient)
        if kind == "evaluate":
            return session.evaluate(validation.check_evaluation(request, plan, self._card))
        return session.save() if kind == "checkpoint" else session.finish()

    def _open(self, request: pb.TrainStepRequest) -> pb.TrainStepReply:
        plan = validation.check_plan(request, self._card, self._config.max_batch)
        name, resume = request.session, request.plan.resume_step
        folder = self._config.folder / name
        self._sessions.pop(name, None)
        self._make_room(known=folder.is_dir())
        session = self._build(name, plan)
        if resume and not session.resume(resume):
            raise Rejected(
                grpc.StatusCode.NOT_FOUND,
                f"plan.resume_step: there is no checkpoint of step {resume} of this plan",
            )
        self._sessions[name] = session, time.monotonic()
        return pb.TrainStepReply(step=session.step)

    def _build(self, name: str, plan: SplitPlan) -> TailSession:
        try:
            return TailSession(self._make(), self._card, plan, self._config.folder / name)
        except UsageError as error:
            raise Rejected(grpc.StatusCode.INVALID_ARGUMENT, f"plan: {error}") from None

    def _make_room(self, known: bool) -> None:
        full = grpc.StatusCode.RESOURCE_EXHAUSTED
        if len(self._sessions) >= self._config.max_sessions:
            oldest = min(self._sessions, key=lambda name: self._sessions[name][1])
            if time.monotonic() - self._sessions[oldest][1] < self._config.idle_s:
                raise Rejected(full, f"session: {len(self._sessions)} are in training, no more are taken")
            del self._sessions[oldest]
        folder = self._config.folder
        if not known and folder.is_dir() and sum(1 for _ in folder.iterdir()) >= self._config.max_kept:
            raise Rejected(
                full, f"session: {self._config.max_kept} sessions' files are kept, no more are taken"
            )


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
