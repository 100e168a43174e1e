"""Contextual bandit: learns where the predictions of the calibration profile are wrong.

A linear model of (reward - predicted utility) for each candidate, in features of the observation: LinUCB (Li et al.,
WWW 2010) or Thompson sampling (Agrawal and Goyal, ICML 2013). Without data it is greedy; the medium that others fill,
the load of the server and drifting inputs are what it can learn. No label is seen: the calibrated probability of
being right at the answer's margin stands for it.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from ..seeding import generator
from .belief import Exploration, believed, predict
from .confidence import Confidence
from .decision import Decision
from .greedy import GreedyTables
from .observation import Observation
from .policy import Outcome
from .rules import utility

__all__ = ["Bandit", "context"]

_FEATURES = 6


def context(observation: Observation, deadline_s: float) -> np.ndarray:
    """Features of order 1, float64 (6,): constant, rate, its spread, time left, queue, server load."""
    rate_bps, sigma_db, _ = believed(observation)
    load = 0.0 if math.isnan(observation.server_load) else observation.server_load
    return np.array(
        [
            1.0,
            math.log10(rate_bps) / 3.0 - 2.0,
            sigma_db / 10.0,
            max(-1.0, observation.time_left_s / deadline_s),
            min(observation.device_queue, 4) / 4.0,
            min(load, 16.0) / 16.0,
        ]
    )


class Bandit:
    """One device's bandit over the candidates of `tables`.

    rule     "ucb": takes the upper end of the belief; "thompson": a draw from it
    width    how many standard deviations of the belief exploration is worth
    ridge    weight of the belief that the predictions are right, in requests
    memory   the past counts this much less with every request of the same candidate; 1 never forgets
    explore_after  as in Greedy

    Keyed by (seed, "bandit", device).
    """

    def __init__(
        self,
        tables: GreedyTables,
        confidence: Confidence,
        device: int,
        *,
        rule: Literal["ucb", "thompson"],
        width: float,
        ridge: float,
        memory: float,
        explore_after: float,
    ) -> None:
        self._tables = tables
        self._confidence = confidence
        self._device = device
        self._thompson = rule == "thompson"
        self._width, self._ridge, self._memory = width, ridge, memory
        self._exploration = Exploration(explore_after)
        self._last: tuple[int, np.ndarray, float, Observation] | None = None
        self.reset(0)

    def decide(self, observation: Observation) -> Decision:
        predicted, weights = self._tables.predicted, self._tables.deployment.weights
        values = predict(predicted, observation).utility
        x = context(observation, weights.deadline_s)
        deviation = np.sqrt(np.maximum(np.einsum("i,aij,j->a", x, self._inverse, x), 0.0))
        bonus = self._draws.standard_normal(len(values)) if self._thompson else 1.0
        believed_values = values + self._theta @ x + self._width * deviation * bonus
        chosen = self._exploration.best(believed_values, predicted.sends, observation.link_up)
        self._last = chosen, x, float(values[chosen]), observation
        return predicted.candidates[chosen]

    def learn(self, outcome: Outcome) -> None:
        self._exploration.learn(outcome)
        if self._last is None:
            return
        arm, x, value, observation = self._last
        self._last = None
        if outcome.decision != self._tables.predicted.candidates[arm]:
            return
        error = self._reward(outcome, observation) - value
        ridge = self._ridge * np.eye(_FEATURES)
        self._gram[arm] = self._memory * (self._gram[arm] - ridge) + ridge + np.outer(x, x)
        self._moment[arm] = self._memory * self._moment[arm] + error * x
        self._inverse[arm] = np.linalg.inv(self._gram[arm])
        self._theta[arm] = self._inverse[arm] @ self._moment[arm]

    def reset(self, seed: int) -> None:
        arms = len(self._tables.predicted.candidates)
        self._draws = generator(seed, "bandit", self._device)
        self._gram = np.broadcast_to(self._ridge * np.eye(_FEATURES), (arms, _FEATURES, _FEATURES)).copy()
        self._inverse = np.linalg.inv(self._gram)
        self._moment = np.zeros((arms, _FEATURES))
        self._theta = np.zeros((arms, _FEATURES))
        self._last = None
        self._exploration.reset()

    def _reward(self, outcome: Outcome, observation: Observation) -> float:
        """Utility as the predictions reckon it: from the decision on, with those that wait behind."""
        weights = self._tables.deployment.weights
        latency_s = outcome.latency_s - (weights.deadline_s - observation.time_left_s)
        gained = utility(
            float(self._confidence(outcome.margin)),
            latency_s,
            outcome.energy_j,
            outcome.airtime_s,
            float(outcome.late),
            weights,
        )
        return gained - weights.latency * observation.device_queue * latency_s / weights.deadline_s
