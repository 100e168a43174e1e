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
from .metrics import mean_costs, request_utility
from .policy_config import DecisionConfig, LyapunovPolicy, OraclePolicy, PolicyConfig, StaticPolicy

if TYPE_CHECKING:
    from .engines import VirtualEngine
    from .setup import Setup

__all__ = ["best_static", "calibrated_prices", "hindsight_prices", "least_prices", "tuning_seed"]

_FINALISTS = 6
_FINAL_SEEDS = 3
_HIGHEST_PRICE = 64.0
_HALVINGS = 9
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


def calibrated_prices(setup: Setup, config: LyapunovPolicy) -> tuple[float, ...]:
    """The least constant prices under which the predicted optimum keeps the budgets, on calibration data."""
    budgets = setup.scenario.budgets.budgets()
    if not budgets.active:
        return ()
    engine = _engine(setup, 0)

    def spent(prices: Sequence[float]) -> np.ndarray:
        # A step of next to nothing keeps the backlog where it starts.
        priced = config.model_copy(update={"prices": tuple(prices), "step": 1e-12})
        return mean_costs(engine.run(priced), budgets) / budgets.limits

    return least_prices(spent, len(budgets.active))


def hindsight_prices(engine: VirtualEngine, config: OraclePolicy) -> tuple[float, ...]:
    """The best constant prices for an oracle, known only after the run."""
    budgets = engine.setup.scenario.budgets.budgets()

    def spent(prices: Sequence[float]) -> np.ndarray:
        priced = config.model_copy(update={"prices": tuple(prices)})
        return mean_costs(engine.run(priced), budgets) / budgets.limits

    return least_prices(spent, len(budgets.active))


def least_prices(spent: Callable[[Sequence[float]], np.ndarray], budgets: int) -> tuple[float, ...]:
    """The least prices, one a budget, at which nothing is overspent, by bisection, one budget after the other.

    spent(prices): mean costs over their budgets, (budgets,); each falls as its own price rises.
    """
    prices = [0.0] * budgets
    for _ in range(1 if budgets == 1 else 2):
        for k in range(budgets):
            low, high = 0.0, _HIGHEST_PRICE
            prices[k] = 0.0
            if spent(prices)[k] <= 1.0:
                continue
            for _ in range(_HALVINGS):
                # The square of the scale: low prices are the usual ones, and matter to the digit.
                prices[k] = ((low**0.5 + high**0.5) / 2) ** 2
                if spent(prices)[k] > 1.0:
                    low = prices[k]
                else:
                    high = prices[k]
            prices[k] = high
    return tuple(prices)


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
                excess = mean_costs(columns, budgets) / budgets.limits - 1.0 - FEASIBLE_WITHIN
                score -= _PENALTY * float(np.maximum(0.0, excess).sum())
            scores[place] += score
    return scores


def _engine(setup: Setup, index: int, requests: int | None = None) -> VirtualEngine:
    from .engines import VirtualEngine

    return VirtualEngine(setup.for_tuning(tuning_seed(setup.scenario.seed, index), requests), "profile")
