"""The learners that a coordinator can ask, in this process or on other servers, behind one interface."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import grpc
import numpy as np

from ..errors import RemoteError, did_you_mean
from ..policies.coordination import Opinion
from ..policies.quorum_driver import Silent
from ..protos import splitpoint_pb2 as pb
from ..protos.client import Refused, TimedOut
from .host import Host
from .run_gates import GateService

__all__ = ["LocalVoter", "RemoteVoter", "Voter", "misfit"]

logger = logging.getLogger(__name__)

_NOMINAL_S_PER_MAC = 1e-9
_WEIGHT = 0.2
_MOST_MACS = 1 << 48
"""Of one opinion: a reply has 64 bits for the sum of all."""
_THE_REQUESTS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


class Voter(Protocol):
    """One learner of the quorum."""

    name: str

    @property
    def card(self) -> pb.Learner | None:
        """None until it is known and found to fit."""
        ...

    @property
    def available(self) -> bool:
        """Whether it may be asked now."""
        ...

    @property
    def doubtful(self) -> bool:
        """Whether it was late, and may be asked where nobody else is left."""
        ...

    @property
    def expected_s(self) -> float:
        """Seconds that its gates and the way there and back are expected to take."""
        ...

    def ask(
        self, request: pb.InferRequest, first: int, last: int, left_s: float
    ) -> AsyncGenerator[Opinion, None]:
        """Opinions of these gates as they are reached; closing it stops the work. Raises RemoteError."""
        ...

    def lost(self, error: Exception) -> None:
        """An ask failed."""
        ...


class _Estimate:
    """What asking a learner costs: MACs at its measured speed, queueing included, and the time on the way."""

    def __init__(self) -> None:
        # Not its inverse: who says that a MAC took a year, or no time at all, has no speed that could be reckoned with.
        self._s_per_mac = _NOMINAL_S_PER_MAC
        self.way_s = 0.0
        self._measured = False

    def seen(self, macs: int, server_s: float, way_s: float | None = None) -> None:
        """An opinion has come; way_s: with the first of an ask, which alone has been there and back."""
        weight = _WEIGHT if self._measured else 1.0
        self._measured = True
        if macs > 0 and server_s > 0.0:
            self._s_per_mac += weight * (server_s / macs - self._s_per_mac)
        if way_s is not None:
            self.way_s += weight * (max(0.0, way_s) - self.way_s)

    def seconds(self, card: pb.Learner | None) -> float:
        return self.way_s + (sum(card.gate_macs) * self._s_per_mac if card is not None else 0.0)


class LocalVoter:
    """A learner in this process: no network between, so it is always there. `index` is its place in the quorum."""

    def __init__(self, index: int, name: str, gates: GateService) -> None:
        self._index, self.name, self._gates = index, name, gates
        self._card = next(card for card in gates.describe() if card.name == name)
        self._estimate = _Estimate()

    @property
    def card(self) -> pb.Learner:
        return self._card

    @property
    def available(self) -> bool:
        return True

    @property
    def doubtful(self) -> bool:
        return False

    @property
    def expected_s(self) -> float:
        return self._estimate.seconds(self.card)

    async def ask(
        self, request: pb.InferRequest, first: int, last: int, left_s: float
    ) -> AsyncGenerator[Opinion, None]:
        since_s = time.monotonic()
        question = self._gates.check(_message(request, self.name, first, last, left_s))
        async with aclosing(self._gates.ask(question)) as opinions:
            async for found in opinions:
                now_s = time.monotonic()
                self._estimate.seen(found.macs, now_s - since_s)
                since_s = now_s
                yield Opinion(self._index, found.gate, found.probabilities, found.macs)

    def lost(self, error: Exception) -> None:
        logger.debug("learner %s: %s", self.name, error)


class RemoteVoter:
    """A learner on another server. `device` is the card of the devices' network, which it must fit."""

    def __init__(self, index: int, name: str, host: Host, device: pb.ModelCard) -> None:
        self._index, self.name, self._host, self._device = index, name, host, device
        self._estimate = _Estimate()
        self._misfit = ""

    @property
    def card(self) -> pb.Learner | None:
        card = self._host.learners.get(self.name)
        if card is None:
            problem = f"there is no learner {self.name}; {did_you_mean(self.name, self._host.learners)}"
        else:
            problem = misfit(card, self._device)
        if problem and problem != self._misfit and self._host.learners:
            logger.warning("%s: not asked: %s", self._host.address, problem)
        self._misfit = problem
        return None if problem else card

    @property
    def available(self) -> bool:
        return self._host.serving and self.card is not None

    @property
    def doubtful(self) -> bool:
        return self._host.doubtful and self.card is not None

    @property
    def expected_s(self) -> float:
        return self._estimate.seconds(self.card)

    async def ask(
        self, request: pb.InferRequest, first: int, last: int, left_s: float
    ) -> AsyncGenerator[Opinion, None]:
        since_s = time.monotonic()
        message = _message(request, self.name, first, last, left_s)
        async with aclosing(self._host.client.run_gates(message, left_s)) as results:
            gate = first
            async for result in results:
                now_s = time.monotonic()
                found = self._opinion(result, gate)
                way_s = now_s - since_s - result.server_s if gate == first else None
                self._estimate.seen(result.macs, result.server_s, way_s)
                since_s, gate = now_s, gate + 1
                yield found
            if gate <= last:
                raise RemoteError(f"{self._host.address}: {self.name} said nothing of gate {gate} and ended")

    def lost(self, error: Exception) -> None:
        # A deadline that passed in its queue is the request's, and so is a refusal; silence is noticed before.
        if isinstance(error, TimedOut) or (isinstance(error, Refused) and error.code in _THE_REQUESTS):
            logger.info("%s did not answer: %s", self.name, error)
            self._host.ask_again()
        else:
            self._host.suspect(error, late=isinstance(error, Silent))

    def _opinion(self, result: pb.GateResult, gate: int) -> Opinion:
        classes = len(self._device.classes)
        if result.gate != gate or len(result.probabilities) != 2 * classes:
            raise RemoteError(f"{self._host.address}: {self.name} sent no opinion of gate {gate}")
        probabilities = np.frombuffer(result.probabilities, "<f2").astype(np.float32)
        if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
            raise RemoteError(f"{self._host.address}: {self.name} sent no probabilities")
        if result.macs > _MOST_MACS or not 0.0 <= result.server_s < math.inf:
            raise RemoteError(f"{self._host.address}: {self.name} sent no account of its work")
        return Opinion(self._index, gate, probabilities, result.macs)


def misfit(card: pb.Learner, device: pb.ModelCard) -> str:
    """Why a learner cannot vote on requests of the devices' network; empty where it can."""
    if card.classes != len(device.classes):
        return f"learner {card.name} has {card.classes} classes, {device.name} has {len(device.classes)}"
    if len(card.gate_macs) != len(device.exits):
        return f"learner {card.name} has {len(card.gate_macs)} gates, {device.name} has {len(device.exits)} exits"
    if card.cut:
        taken = card.head_id == device.id and card.image_height * card.image_width == device.patch_tokens
        return "" if taken else f"learner {card.name} takes tokens of {card.head_id}, not of {device.id}"
    shape = (device.image_height, device.image_width, device.channels)
    own = (card.image_height, card.image_width, card.channels)
    return "" if own == shape else f"learner {card.name} takes images {own}, {device.name} {shape}"


def _message(request: pb.InferRequest, name: str, first: int, last: int, left_s: float) -> pb.RunGatesRequest:
    message = pb.RunGatesRequest(request=request, learner=name, first_gate=first, last_gate=last)
    message.request.deadline_s = max(1e-3, left_s)
    return message
