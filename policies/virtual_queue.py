"""Virtual queues: what long-term budgets cost now, from what was spent so far (arXiv 2505.17604).

    Z_k <- max(0, Z_k + mu (g_k / gbar_k - 1))       one queue a budget, in units of the budget
    S_k <- S_k + (g_k / gbar_k - 1)                  what the whole path is over, or under, the budget
    D_k <- D_k + rho (S_k - D_k)                     the same, without the swings of single requests
    pressure_k = Z_k + kappa max(0, D_k)

Z alone keeps every budget in the long run: mean cost / budget - 1 <= (Z_T - Z_0) / (mu T) on every path, whatever is
decided. Z must first climb to a device's price, though, and the climb is overspent. The second term is ours: while a
path is over its budget, and a little longer, the pressure is higher by kappa times what it is over, so that paths of
some hundred requests keep theirs too. It is slow, for a price that follows every request costs utility on links that
fade. It leaves Z, and so the bound, as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .budgets import Budgets
from .policy import Outcome
from .rules import queue_step

__all__ = ["DEBT", "VirtualQueues"]

DEBT = 10.0
"""kappa: on calibration data no device of `steady` or `fading` then ends 1 % over its budget."""

_SLOW = 0.04
"""rho: about 25 requests."""


class VirtualQueues:
    """One for each active budget.

    start  Z_0, one value a budget, or one for all
    step   mu
    debt   kappa
    """

    def __init__(
        self, budgets: Budgets, start: float | Sequence[float] = 0.0, step: float = 1.0, debt: float = DEBT
    ) -> None:
        self._budgets = budgets
        self._start = np.broadcast_to(np.asarray(start, float), (len(budgets.active),))
        self._step, self._debt = step, debt
        self.backlog = self._start.copy()
        self._over = self._slow = np.zeros(len(self._start))

    @property
    def pressure(self) -> np.ndarray:
        """What a unit of each budget costs now, float64 (budgets,)."""
        pressure: np.ndarray = self.backlog + self._debt * np.maximum(0.0, self._slow)
        return pressure

    @property
    def overdrawn(self) -> bool:
        """Whether some budget is dearer than at the start, as each is that was overspent so far."""
        return bool((self.backlog > self._start).any())

    def learn(self, outcome: Outcome) -> None:
        """Count what a request cost."""
        spent = self._budgets.spent(outcome)
        self.backlog = queue_step(self.backlog, spent, 1.0, self._step)
        self._over = self._over + spent - 1.0
        self._slow = self._slow + _SLOW * (self._over - self._slow)

    def reset(self) -> None:
        """Back to the start."""
        self.backlog = self._start.copy()
        self._over = self._slow = np.zeros(len(self._start))
