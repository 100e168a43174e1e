"""Lyapunov drift-plus-penalty control: as much utility as long-term budgets allow (arXiv 2505.17604).

    decide: argmax over the grid of V utility - sum_k Z_k ghat_k / gbar_k

Z_k is the pressure of budget k's virtual queue (`virtual_queue.py`, with the bound that holds on every path). On i.i.d.
channels the utility comes within O(1/V) of the best that the budgets allow, with a backlog of O(V): Z / V is the price
of a budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .belief import EXPLORE_AFTER, Exploration, predict
from .budgets import Budgets
from .decision import Decision
from .greedy import GreedyTables
from .observation import Observation
from .policy import Outcome
from .predicted import Prediction
from .virtual_queue import DEBT, VirtualQueues

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
    debt           kappa
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
        debt: float = DEBT,
        explore_after: float = EXPLORE_AFTER,
    ) -> None:
        self._tables = tables
        self._budgets = budgets
        self._v = v
        self._exploration = Exploration(explore_after)
        self.queues = VirtualQueues(budgets, start, step, debt)

    def decide(self, observation: Observation) -> Decision:
        predicted = self._tables.predicted
        prediction = predict(predicted, observation)
        values = prediction.utility
        if self._budgets.active:
            costs = predicted_costs(prediction, self._budgets, observation.device_queue)
            values = drift_plus_penalty(values, costs, self.queues.pressure, self._v)
        # What is tried must be paid for like all else: seldom while a budget is overdrawn.
        affordable = not self.queues.overdrawn
        best = self._exploration.best(values, predicted.sends, observation.link_up, affordable=affordable)
        return predicted.candidates[best]

    def learn(self, outcome: Outcome) -> None:
        self._exploration.learn(outcome)
        self.queues.learn(outcome)

    def reset(self, seed: int) -> None:
        self._exploration.reset()
        self.queues.reset()
