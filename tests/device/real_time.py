"""A device in real time before a server, and how it is asked."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from splitpoint.clock import Clock
from splitpoint.codec.tokens import TokenCodec
from splitpoint.device.agent import Agent
from splitpoint.device.connection import agreement
from splitpoint.device.encoder import Encoder
from splitpoint.device.load import load_head
from splitpoint.device.realtime_batch import BatchDevice
from splitpoint.device.session import Finished, Session
from splitpoint.policies.decision import Decision
from splitpoint.policies.guard import GuardedPolicy
from splitpoint.policies.rules import Power
from splitpoint.policies.static import Static
from splitpoint.protos.client import ServiceClient

from .conftest import Small

DEADLINE_S = 0.3
TOLERANCE_S = 0.05
REFINED = Decision(2, bits=2, refine_bits=5, refine_margin=1.1)


def make_encoder(small: Small) -> Encoder:
    card = small.card
    return Encoder(card, TokenCodec({}, dim=card.dim, max_tokens=card.patch_tokens + 1))


def make_session(small: Small, decision: Decision, block_s: float = 0.001) -> Session:
    card = small.card
    agent = Agent(card.exits, [cut * block_s for cut in range(card.depth + 1)], 0.02)
    policy = GuardedPolicy(Static(decision), card, Decision(card.depth))
    power = Power(2.5, 1.3, 0.9, 0.3)
    return Session(agent, policy, power, deadline_s=DEADLINE_S, coherence_s=0.5, battery_j=math.inf)


@asynccontextmanager
async def device_at(
    small: Small,
    address: str,
    decision: Decision,
    *,
    head: Any = None,
    block_s: float = 0.001,
    **options: Any,
) -> AsyncIterator[BatchDevice]:
    async with ServiceClient(address) as client:

        async def admit() -> None:
            await agreement(client, small.card, "packed", 0)

        device = BatchDevice(
            make_session(small, decision, block_s),
            head or load_head(small.file),
            make_encoder(small),
            client,
            Clock(),
            admit=admit,
            **options,
        )
        try:
            yield device
        finally:
            await device.close()


async def ask(device: BatchDevice, image: np.ndarray) -> Finished:
    (finished,) = await device.serve_batch([image], device.clock.now())
    assert finished.answer.done_s - finished.arrival_s <= DEADLINE_S + TOLERANCE_S
    return finished
