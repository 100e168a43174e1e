"""What is chosen by simulation on calibration data before a run: the best static Decision, and prices of budgets.

The scenario is simulated with the calibration profile in the evaluation profile's place, and with other seeds than any
run's, so that nothing of a run is known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..policies.budgets import FEASIBLE_WITHIN, Budgets
from ..policies.decision import Decision
from ..policies.greedy import GreedyTables
from .metrics import device_costs, request_utility
from .policy_config import (
    DecisionConfig,
    LyapunovPolicy,
    OraclePolicy,
    PolicyConfig,
    StaticPolicy,
    TrainedPolicy,
)

if TYPE_CHECKING:
    from .engines import VirtualEngine
    from .setup import Setup

__all__ = ["best_static", "calibrated_prices", "hindsight_prices", "least_prices", "tuning_seed"]

_FINALISTS = 6
_FINAL_SEEDS = 3
_HIGHEST_PRICE = 16.0
_HALVINGS = 8
_TUNING_REQUESTS = 800
_PENALTY = 10.0
"""Utility lost per unit of relative excess over a budget, when static Decisions are compared."""


def tuning_seed(seed: int, index: int = 0) -> int:
    """Seeds of tuning and training: odd multiples far away from the small numbers that people give to runs."""
    return 1_000_003 * (index + 1) + seed


def best_static(setup: Setup, tables: GreedyTables, requests: int) -> Decision:
    """Of the candidates, the Decision with the best mean utility; within the budgets, where any is."""
    candidates = tables.predicted.candidates
    first = _scores(setup, candidates, requests, [0])
    finalists = [candidates[i] for i in np.argsort(-first, kind="stable")[:_FINALISTS].tolist()]
    final = _scores(setup, finalists, requests, range(1, 1 + _FINAL_SEEDS))
    return finalists[int(final.argmax())]


def calibrated_prices(setup: Setup, config: LyapunovPolicy | TrainedPolicy) -> tuple[float, ...]:
    """The least constant prices under which the predicted optimum keeps the budgets, on calibration data.

    The mean over the devices: which of them a price is for, the seeds of a run say.
    """
    budgets = setup.scenario.budgets.budgets()
    if not budgets.active:
        return ()
    engine = _engine(setup, 0, min(setup.scenario.requests, _TUNING_REQUESTS))

    def spent(prices: np.ndarray) -> np.ndarray:
        # A step of next to nothing keeps the backlog where it starts.
        common = tuple(prices.mean(axis=1).tolist())
        columns = engine.run(config.model_copy(update={"prices": common, "step": 1e-12, "debt": 0.0}))
        return device_costs(columns, budgets).mean(axis=1, keepdims=True)

    return tuple(least_prices(spent, (len(budgets.active), 1))[:, 0].tolist())


def hindsight_prices(engine: VirtualEngine, config: OraclePolicy) -> tuple[tuple[float, ...], ...]:
    """The best constant prices for an oracle, known only after the run: for each device, one a budget."""
    budgets, devices = engine.setup.scenario.budgets.budgets(), len(engine.setup.groups)

    def spent(prices: np.ndarray) -> np.ndarray:
        priced = config.model_copy(update={"prices": tuple(map(tuple, prices.T.tolist()))})
        costs = device_costs(engine.run(priced), budgets)
        # Of fewer requests than devices the last devices have none, and spend nothing.
        return np.pad(costs, ((0, 0), (0, devices - costs.shape[1])))

    found = least_prices(spent, (len(budgets.active), devices))
    return tuple(map(tuple, found.T.tolist()))


def least_prices(spent: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The least prices, (budgets, devices), at which no device overspends: bisection, one budget after the other.

    spent(prices): mean costs over their budgets, (budgets, devices); each falls as its own price rises.
    """
    prices = np.zeros(shape)
    for _ in range(1 if shape[0] == 1 else 2):
        for k in range(shape[0]):
            low, high = np.zeros(shape[1]), np.full(shape[1], _HIGHEST_PRICE)
            prices[k] = 0.0
            over = spent(prices)[k] > 1.0
            if not over.any():
                continue
            for _ in range(_HALVINGS):
                # Halves of the square root: low prices are the usual ones, and matter to the digit.
                middle = ((np.sqrt(low) + np.sqrt(high)) / 2) ** 2
                prices[k] = np.where(over, middle, 0.0)
                dear = spent(prices)[k] > 1.0
                low, high = np.where(dear, middle, low), np.where(dear, high, middle)
            prices[k] = np.where(over, high, 0.0)
    return prices


def _scores(
    setup: Setup, candidates: Sequence[Decision], requests: int, seeds: Sequence[int] | range
) -> np.ndarray:
    """Mean utility of each static candidate less what it overspends, (candidates,)."""
    budgets: Budgets = setup.scenario.budgets.budgets()
    scores = np.zeros(len(candidates))
    for index in seeds:
        engine = _engine(setup, index, requests)
        for place, decision in enumerate(candidates):
            policy: PolicyConfig = StaticPolicy(name="candidate", decision=DecisionConfig.of(decision))
            columns = engine.run(policy)
            score = float(request_utility(columns, engine.setup.scenario.weights()).mean())
            if budgets.active:
                excess = device_costs(columns, budgets).max(axis=1) - 1.0 - FEASIBLE_WITHIN
                score -= _PENALTY * float(np.maximum(0.0, excess).sum())
            scores[place] += score
    return scores


def _engine(setup: Setup, index: int, requests: int | None = None) -> VirtualEngine:
    from .engines import VirtualEngine

    return VirtualEngine(setup.for_tuning(tuning_seed(setup.scenario.seed, index), requests), "profile")
