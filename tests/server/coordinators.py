"""A coordinator and its learners over gRPC, all in one loop."""

from contextlib import AsyncExitStack

import grpc
import numpy as np

from splitpoint.codec.requests import exit_state_message
from splitpoint.protos.client import ServiceClient
from splitpoint.server.engine import Parts
from splitpoint.server.quorum_config import QuorumConfig

CODE = grpc.StatusCode
NAMES = ("a", "b", "c")


def disagreeing(scripted, place):
    """Opinions that agree on some images only, and grow surer from gate to gate."""

    def says(image, gate):
        pixel = int(image[0, 0, 0])
        strength = 0.15 + 0.3 * gate + 0.2 * (pixel % 2)
        return scripted.leaning((pixel + (pixel // 5 % 3 == place)) % 5, strength)

    return says


def with_state(small, number, logits, passed):
    """A request of the image with the exit state of `passed` exits, which say `logits`."""
    request = small.request(number, cut=0)
    state = np.zeros(small.card.exit_state_dim, np.float32)
    request.exit_state.CopyFrom(exit_state_message(state, logits, passed, 0.5))
    return request


class Coordinated:
    """`async with Coordinated(...) as client`: a coordinator of learners in servers of their own, or `local` ones."""

    def __init__(
        self,
        small,
        in_loop,
        scripted,
        *,
        learners=None,
        local=False,
        on_device=False,
        limits=None,
        **settings,
    ):
        self.small, self.in_loop = small, in_loop
        self.learners = learners or [scripted(n, disagreeing(scripted, i)) for i, n in enumerate(NAMES)]
        self.local, self.on_device = local, on_device
        # Patient: where machines are shared, a turn of the loop may take a second.
        self.settings = {"order": "listed", "patience_s": 30.0, "probe_s": 30.0, "alpha": 5e-4} | settings
        self.limits = limits or {}
        self.elsewhere, self.coordinator, self.client = (AsyncExitStack() for _ in range(3))

    async def __aenter__(self):
        small = self.small
        places = [{"model": str(small.path), "on_device": True}] if self.on_device else []
        codecs = {small.card.id: small.codec}
        for learner in self.learners:
            place = {"model": learner.card.name}
            if not self.local:
                context = self.in_loop(Parts(runners={learner.card.name: learner}, codecs=codecs))
                place["address"] = await self.elsewhere.enter_async_context(context)
            places.append(place)
        config = QuorumConfig(learners=places, model=str(small.path), **self.settings)
        runners = {learner.card.name: learner for learner in self.learners} if self.local else {}
        parts = Parts(runners=runners, codecs=codecs, device=(small.card, small.codec))
        context = self.in_loop(parts, quorum=config, **self.limits)
        try:
            address = await self.coordinator.enter_async_context(context)
        except BaseException:
            await self.elsewhere.aclose()
            raise
        return await self.client.enter_async_context(ServiceClient(address))

    async def __aexit__(self, *what):
        for stack in (self.client, self.coordinator, self.elsewhere):
            await stack.aclose()
