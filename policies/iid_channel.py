"""An i.i.d. channel on which drift-plus-penalty control can be held against what is possible at all.

Every request meets a rate of its own, log-normal, which the policy knows; what the candidates give and cost there are
their predicted means. So the best utility within a budget is a linear program over rates and candidates, whose dual has
one variable: the price of the budget.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..seeding import generator
from .budgets import Budgets
from .lyapunov import drift_plus_penalty
from .predicted import PredictedUtility
from .rules import queue_step

__all__ = ["Controlled", "IidChannel", "best_within"]

_MEDIAN_BPS = 5e5
_SIGMA_DB = 6.0
_RATES = 64


class Controlled(NamedTuple):
    """One run: means per request, the cost in units of the budget; the backlog's mean over the second half."""

    utility: float
    cost: float
    mean_backlog: float
    last_backlog: float
    path: np.ndarray


class IidChannel:
    """predicted: the candidates; budgets: exactly one; keyed by (seed, "iid-channel")."""

    def __init__(self, predicted: PredictedUtility, budgets: Budgets, *, requests: int, seed: int) -> None:
        (name,), (limit,) = budgets.active, budgets.limits.tolist()
        sigma = _SIGMA_DB * math.log(10.0) / 10.0
        # Rates in the middles of equally likely bins, so that a mean over them is one over the distribution.
        z = np.sqrt(2.0) * np.array([_inverse_erf(2.0 * (i + 0.5) / _RATES - 1.0) for i in range(_RATES)])
        cases = [
            predicted.expect(float(rate), 0.1, 0.01, predicted.deadline_s, 0)
            for rate in _MEDIAN_BPS * np.exp(sigma * z)
        ]
        self.requests = requests
        self.utility = np.stack([case.utility for case in cases])
        self.cost = np.stack([getattr(case, name) for case in cases]) / limit
        self.second_moment = float(np.square(self.cost - 1.0).max(axis=1).mean())
        self._drawn = generator(seed, "iid-channel").integers(0, _RATES, requests).tolist()

    def control(self, v: float) -> Controlled:
        """Drift-plus-penalty along the path, from an empty queue with mu = 1."""
        backlog, utility, cost = 0.0, 0.0, 0.0
        path = np.empty(self.requests)
        for request, rate in enumerate(self._drawn):
            values = drift_plus_penalty(self.utility[rate], self.cost[rate][None], np.array([backlog]), v)
            chosen = int(values.argmax())
            utility += self.utility[rate, chosen]
            cost += self.cost[rate, chosen]
            backlog = path[request] = queue_step(backlog, float(self.cost[rate, chosen]), 1.0, 1.0)
        late = path[self.requests // 2 :]
        return Controlled(utility / self.requests, cost / self.requests, float(late.mean()), backlog, path)


def best_within(channel: IidChannel) -> tuple[float, float]:
    """(the best mean utility within the budget over all randomised policies, the price of the budget).

    By the dual: least over prices of mean(max(utility - price (cost - 1))), which is convex in the price.
    """
    drawn = np.bincount(channel._drawn, minlength=len(channel.utility)) / channel.requests

    def dual(price: float) -> float:
        return float(drawn @ (channel.utility - price * (channel.cost - 1.0)).max(axis=1))

    low, high = 0.0, 16.0
    for _ in range(100):
        a, b = low + (high - low) / 3.0, high - (high - low) / 3.0
        if dual(a) <= dual(b):
            high = b
        else:
            low = a
    return dual(0.5 * (low + high)), 0.5 * (low + high)


def _inverse_erf(x: float) -> float:
    low, high = -6.0, 6.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if math.erf(middle) < x else (low, middle)
    return 0.5 * (low + high)
