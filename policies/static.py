"""Always the same Decision."""

from __future__ import annotations

from .decision import Decision
from .observation import Observation
from .policy import Outcome

__all__ = ["Static"]


class Static:
    learns = False

    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    def decide(self, observation: Observation) -> Decision:
        return self.decision

    def learn(self, outcome: Outcome) -> None:
        """Nothing to learn."""

    def reset(self, seed: int) -> None:
        """Nothing to forget."""
