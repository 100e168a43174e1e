"""A policy that everything changes, and messages to the service that keeps it."""

import asyncio
import math

import grpc
import numpy as np

from splitpoint.policies.decision import Decision
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome
from splitpoint.policies.wire import observation_message, outcome_message, read_decision
from splitpoint.protos import PROTOCOL_VERSION
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import ServiceClient
from splitpoint.server.deciding import PolicySource
from splitpoint.server.engine import Parts

from ..small_card import SMALL

CODE = grpc.StatusCode
CARD = SMALL.model_copy(update={"id": "0123456789abcdef"})
SAFE = Decision(CARD.depth)
SEEN = Observation(10.0, 1e6, 2.0, 0.01, 0, 0.0, math.inf, 0.3, True)


class Sensitive:
    """Every bit of what it ever saw and learned changes its Decisions."""

    def __init__(self, device="0"):
        self.device = device
        self.reset(0)

    def decide(self, observation):
        self._take(repr(observation))
        return Decision(self.state % 5, keep=1.0 / (1 + self.state % 97), bits=1 + self.state % 8)

    def learn(self, outcome):
        self._take(repr(outcome))

    def reset(self, seed):
        self.state = seed

    def _take(self, text):
        for byte in text.encode():
            self.state = (31 * self.state + byte) % (2**61 - 1)


def source(make=Sensitive, seed=5):
    return PolicySource("sensitive", CARD, make, seed)


def asking(session="s", device="0", observation=SEEN, outcomes=(), first=0):
    return pb.DecideRequest(
        protocol_version=PROTOCOL_VERSION,
        device=device,
        observation=observation_message(observation),
        model_id=CARD.id,
        session=session,
        outcomes=map(outcome_message, outcomes),
        first_outcome=first,
    )


def telling(outcomes, first, session="s"):
    return pb.LearnRequest(
        protocol_version=PROTOCOL_VERSION,
        device="0",
        model_id=CARD.id,
        session=session,
        outcomes=map(outcome_message, outcomes),
        first_outcome=first,
    )


def scenes(count, seed=3):
    """Observations, some of them with nothing known, each with the outcome that follows it."""
    random = np.random.default_rng(seed)
    for number in range(count):
        known = random.random(4).tolist() if number % 5 else [math.nan] * 4
        battery = math.inf if number % 2 else 100.0 - number / 7
        seen = Observation(
            *known[:3], known[3] / 10, number % 3, known[0] * 4, battery, 0.3 - number / 997, number % 7 > 0
        )
        made = Decision(number % 5, keep=1.0 / (number + 3), exit_margin=random.random())
        costs = random.random(4).tolist()
        yield seen, Outcome(made, number % 4, number % 2 == 0, number % 3 == 0, False, *costs, number)


def run(scenario, in_loop, policies=None):
    """The scenario with a client of a server whose policies are these."""

    async def main():
        async with in_loop(Parts(), policies=policies) as address, ServiceClient(address) as client:
            return await scenario(client)

    return asyncio.run(main())


async def decided(client, request):
    return read_decision((await client.decide(request, 5.0)).decision, CARD)
