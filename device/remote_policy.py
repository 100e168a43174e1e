"""The policy `remote`: the server decides, where it does so in time.

    driver ─► observe ─► ask ─► Decide (gRPC, with what was learned since) ─► decide ─► agent
                           └ late, refused or gone ─► decide raises ─► the guard's safe default: all local

The driver asks before the agent starts, and waits; `decide` only hands over what came. So the agent knows nothing of
it. Questions and outcomes are no requests: they are not charged as bytes, airtime or energy.
"""

from __future__ import annotations

import uuid
from collections import deque

import grpc

from ..errors import DataError, RemoteError
from ..models.card import ModelCard
from ..policies.decision import Decision
from ..policies.observation import Observation
from ..policies.policy import Outcome
from ..policies.wire import observation_message, outcome_message, read_decision
from ..protos import PROTOCOL_VERSION
from ..protos import splitpoint_pb2 as pb
from ..protos.client import Refused, ServiceClient

__all__ = ["RemotePolicy"]

_MOST_KEPT = 64
"""Outcomes that wait for a server that is gone; the oldest are forgotten."""


class RemotePolicy:
    """card: of the device's network. device: its name; a number is that of a device in the server's scenario.

    limit_s   longest wait for a Decision
    """

    def __init__(self, card: ModelCard, device: str, limit_s: float) -> None:
        self.limit_s = limit_s
        self._card, self._device = card, device
        self._session = ""
        self._untold: deque[Outcome] = deque(maxlen=_MOST_KEPT)
        self._answered = 0
        self._asked: Observation | None = None
        self._decision: Decision | None = None
        self._error = RemoteError("the server was not asked")
        self.reset(0)

    async def ask(self, client: ServiceClient, observation: Observation, timeout_s: float) -> None:
        """Have `decide` of this observation give what the server decides. Raises RemoteError where it does not,
        and so will `decide`."""
        self._asked, self._decision = observation, None
        told = len(self._untold)
        request = pb.DecideRequest(
            protocol_version=PROTOCOL_VERSION,
            device=self._device,
            observation=observation_message(observation),
            model_id=self._card.id,
            session=self._session,
            outcomes=map(outcome_message, self._untold),
            first_outcome=self._answered - told,
        )
        try:
            reply = await client.decide(request, min(self.limit_s, timeout_s))
            self._forget(told)
            if reply.replaced:
                raise RemoteError(f"{client.address}: its policy failed")
            self._decision = read_decision(reply.decision, self._card)
        except DataError as error:
            self._error = RemoteError(f"{client.address}: decided what does not fit: {error}")
            raise self._error from None
        except RemoteError as error:
            self._error = error
            if isinstance(error, Refused) and error.code is grpc.StatusCode.INVALID_ARGUMENT:
                # Told again it would be refused again.
                self._untold.clear()
            raise

    def decide(self, observation: Observation) -> Decision:
        """What the server decided of this very observation. Raises what kept it from doing so."""
        if observation is not self._asked:
            raise RemoteError("the server was not asked")
        if self._decision is None:
            raise self._error
        return self._decision

    def learn(self, outcome: Outcome) -> None:
        """Kept until the server is asked next."""
        self._untold.append(outcome)
        self._answered += 1

    def reset(self, seed: int) -> None:
        """Begin a new session: the server makes a fresh policy for it, with its own seed."""
        # Names the session and nothing else: no behaviour follows from it.
        self._session = uuid.uuid4().hex
        self._untold.clear()
        self._answered = 0
        self._asked = self._decision = None

    async def close(self, client: ServiceClient) -> None:
        """Tell what the server has not heard yet, if it listens."""
        if not self._untold:
            return
        told = len(self._untold)
        request = pb.LearnRequest(
            protocol_version=PROTOCOL_VERSION,
            device=self._device,
            model_id=self._card.id,
            session=self._session,
            outcomes=map(outcome_message, self._untold),
            first_outcome=self._answered - told,
        )
        await client.learn(request, self.limit_s)
        self._forget(told)

    def _forget(self, told: int) -> None:
        for _ in range(told):
            self._untold.popleft()
