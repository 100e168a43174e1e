"""The Decisions of an earlier run, request by request."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from .decision import Decision
from .observation import Observation
from .policy import Outcome

__all__ = ["Replay"]


class Replay:
    """Gives `decisions` in order: those one device took, one a request.

    One Decision may answer several requests, which were merged: so it is outcomes that count them. Raises UsageError
    when it is asked about more requests than the recorded run had.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._decisions = decisions
        self._answered = 0

    def decide(self, observation: Observation) -> Decision:
        if self._answered >= len(self._decisions):
            raise UsageError(
                f"replay holds {len(self._decisions)} decisions for this device and was asked for one more"
            )
        return self._decisions[self._answered]

    def learn(self, outcome: Outcome) -> None:
        self._answered += 1

    def reset(self, seed: int) -> None:
        self._answered = 0
