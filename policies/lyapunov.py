"""Lyapunov drift-plus-penalty control: as much utility as long-term budgets allow (arXiv 2505.17604).

    Z_k <- max(0, Z_k + mu (g_k / gbar_k - 1))       one virtual queue a budget, in units of the budget
    decide: argmax over the grid of V utility - sum_k Z_k ghat_k / gbar_k

On every path, whatever is decided: mean cost / budget - 1 <= (Z_T - Z_0) / (mu T). On i.i.d. channels the utility
comes within O(1/V) of the best that the budgets allow, with a backlog of O(V): Z / V is the price of a budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .belief import Exploration, predict
from .budgets import Budgets
from .decision import Decision
from .greedy import GreedyTables
from .observation import Observation
from .policy import Outcome
from .predicted import Prediction
from .rules import queue_step

__all__ = ["Lyapunov", "drift_plus_penalty", "predicted_costs"]


def drift_plus_penalty(utility: np.ndarray, costs: np.ndarray, backlog: np.ndarray, v: float) -> np.ndarray:
    """What to maximise, (candidates,): V utility less the backlog times costs (budgets, candidates)."""
    return v * utility - backlog @ costs


def predicted_costs(prediction: Prediction, budgets: Budgets, queue: int) -> np.ndarray:
    """Costs in units of the budgets, (budgets, candidates).

    Each of the `queue` requests behind this one waits for as long as it takes, so their latency is counted here.
    """
    costs = np.stack([getattr(prediction, name) for name in budgets.active])
    costs = costs / budgets.limits[:, None]
    if budgets.latency_s is not None:
        costs[budgets.active.index("latency_s")] *= 1 + queue
    return costs


class Lyapunov:
    """Keeps one virtual queue a budget; without budgets it is greedy.

    v              how much utility counts against backlog: larger is nearer to the best utility, and later within
                   the budgets
    step           mu
    start          Z_0 of every budget, or one value a budget: a price known beforehand, times v
    explore_after  local answers in a row after which the link is tried again
    """

    def __init__(
        self,
        tables: GreedyTables,
        budgets: Budgets,
        *,
        v: float = 200.0,
        step: float = 1.0,
        start: float | Sequence[float] = 0.0,
        explore_after: int = 4,
    ) -> None:
        self._tables = tables
        self._budgets = budgets
        self._v, self._step = v, step
        self._start = np.broadcast_to(np.asarray(start, float), (len(budgets.active),))
        self._exploration = Exploration(explore_after)
        self.backlog = self._start.copy()

    def decide(self, observation: Observation) -> Decision:
        predicted = self._tables.predicted
        prediction = predict(predicted, observation)
        values = prediction.utility
        if len(self.backlog):
            costs = predicted_costs(prediction, self._budgets, observation.device_queue)
            values = drift_plus_penalty(values, costs, self.backlog, self._v)
        return predicted.candidates[self._exploration.best(values, predicted.sends, observation.link_up)]

    def learn(self, outcome: Outcome) -> None:
        self._exploration.learn(outcome)
        if len(self.backlog):
            self.backlog = queue_step(self.backlog, self._budgets.spent(outcome), 1.0, self._step)

    def reset(self, seed: int) -> None:
        self._exploration.reset()
        self.backlog = self._start.copy()
