"""A Decision at random for every request: what every other policy must beat, and the zero of the share."""

from __future__ import annotations

from collections.abc import Sequence

from ..seeding import Uniforms
from .decision import Decision
from .observation import Observation
from .policy import Outcome

__all__ = ["Random"]


class Random:
    """Uniform over `candidates`, keyed by (seed, "random-policy", device, request)."""

    learns = False

    def __init__(self, candidates: Sequence[Decision], device: int) -> None:
        self._candidates = list(candidates)
        self._device = device
        self.reset(0)

    def decide(self, observation: Observation) -> Decision:
        self._request += 1
        return self._candidates[int(self._draws[self._request - 1] * len(self._candidates))]

    def learn(self, outcome: Outcome) -> None:
        """Nothing to learn."""

    def reset(self, seed: int) -> None:
        self._draws = Uniforms(seed, "random-policy", self._device)
        self._request = 0
