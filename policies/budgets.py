"""Long-term budgets: means per request that a policy must not exceed over a run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .policy import Outcome

__all__ = ["FEASIBLE_WITHIN", "Budgets"]

FEASIBLE_WITHIN = 0.01
"""A run whose mean cost is at most this part above its budget counts as within it."""


class Budgets(NamedTuple):
    """Mean latency and airtime in seconds, mean energy in joules, each per request; None for no budget."""

    latency_s: float | None = None
    energy_j: float | None = None
    airtime_s: float | None = None

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the budgets that are set, in the order of the fields."""
        return tuple(name for name, budget in zip(self._fields, self, strict=True) if budget is not None)

    @property
    def limits(self) -> np.ndarray:
        """The budgets that are set, float64 (len(active),)."""
        return np.array([budget for budget in self if budget is not None], float)

    def spent(self, outcome: Outcome) -> np.ndarray:
        """What one request cost, in units of its budgets: 1 is a request that costs exactly the mean allowed."""
        return np.array([getattr(outcome, name) for name in self.active], float) / self.limits
