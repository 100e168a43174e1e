"""The Decisions of an earlier run, request by request."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from .decision import Decision
from .observation import Observation
from .policy import Outcome

__all__ = ["Replay"]


class Replay:
    """Gives `decisions` in order: those one device took, in the order of its requests.

    Raises UsageError when it is asked more often than the recorded run was.
    """

    learns = False

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._decisions = decisions
        self._next = 0

    def decide(self, observation: Observation) -> Decision:
        if self._next >= len(self._decisions):
            raise UsageError(
                f"replay holds {len(self._decisions)} decisions for this device and was asked for one more"
            )
        self._next += 1
        return self._decisions[self._next - 1]

    def learn(self, outcome: Outcome) -> None:
        """Nothing to learn."""

    def reset(self, seed: int) -> None:
        self._next = 0
