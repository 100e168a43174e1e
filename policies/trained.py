"""A trained policy on a board or in simulation: numpy, a small perceptron, no torch.

Budgets are kept as Lyapunov control keeps them: the network was trained over prices, and a virtual queue for each
budget says what its price is now. So the bound on every path holds for it too (see `virtual_queue.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .budgets import Budgets
from .decision import Decision
from .features import Scales, features
from .memory import Memory, price_features
from .observation import Observation
from .policy import Outcome
from .trained_file import TrainedNetwork
from .virtual_queue import DEBT, VirtualQueues

__all__ = ["Trained"]


class Trained:
    """Takes the action with the highest score.

    budgets        must be set where the network was trained with a price for them
    v, step, debt  as in Lyapunov; prices: Z_0 / v, one a budget, those of the network's card
    """

    def __init__(
        self,
        network: TrainedNetwork,
        budgets: Budgets,
        *,
        v: float = 200.0,
        step: float = 1.0,
        prices: Sequence[float] = (),
        debt: float = DEBT,
    ) -> None:
        card = network.card
        self._network = network
        self._budgets = Budgets(**{name: getattr(budgets, name) for name in card.budgets})
        self._scales = Scales(card.deadline_s, float("inf") if card.battery_j is None else card.battery_j)
        self._v = v
        self.queues = VirtualQueues(self._budgets, [v * price for price in prices] or 0.0, step, debt)
        self._known: dict[tuple[int, ...], Decision] = {}
        self._ends = np.cumsum(card.outputs)[:-1]
        self._memory = Memory(1)

    def decide(self, observation: Observation) -> Decision:
        x = np.concatenate(
            [
                features(observation, self._scales),
                self._memory.rows()[0],
                price_features(self.queues.pressure / self._v),
            ]
        )
        levels = tuple(int(scores.argmax()) for scores in np.split(self._network(x), self._ends))
        decision = self._known.get(levels)
        if decision is None:
            decision = self._known[levels] = self._network.card.decision(list(levels))
        return decision

    def learn(self, outcome: Outcome) -> None:
        self._memory.learn(
            np.array([outcome.offloaded]), np.array([outcome.degraded]), np.array([outcome.margin])
        )
        self.queues.learn(outcome)

    def reset(self, seed: int) -> None:
        self._memory = Memory(1)
        self.queues.reset()
