"""Which Decisions policies choose among: all of the grid, and nothing that wins is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from splitpoint.policies.belief import REPORT_SIGMA_DB
from splitpoint.policies.candidates import best_somewhere, grid_decisions
from splitpoint.policies.predicted import PredictedUtility, Prediction
from splitpoint.policies.rules import UtilityWeights
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

SETUP = Setup(load_scenario("quickstart"))
PROFILE, WEIGHTS = SETUP.calibration, SETUP.deployment(0).weights
MARGINS = (0.7, 0.95)
PREDICTED = PredictedUtility(PROFILE, grid_decisions(PROFILE, MARGINS), SETUP.deployment(0))


def test_the_grid_is_every_cut_and_compression_once_a_margin() -> None:
    decisions = grid_decisions(PROFILE, MARGINS)
    inner = [cut for cut in PROFILE.cuts if 0 < cut < PROFILE.card.depth]
    compressions = len(PROFILE.keeps) * len(PROFILE.dims) * len(PROFILE.bits)
    assert len(set(decisions)) == len(decisions) == len(MARGINS) * (2 + len(inner) * compressions)
    assert {decision.split for decision in decisions} == {0, PROFILE.card.depth, *inner}
    assert {decision.exit_margin for decision in decisions} == set(MARGINS)


class _Corners:
    """Candidates that each win in one corner only; seconds, joules and their references are 1."""

    sends = np.array([False] * 7 + [True] * 2)

    def expect(
        self, rate_bps: float, rate_sigma_db: float, round_trip_s: float, time_left_s: float, queue: int
    ) -> Prediction:
        # Everywhere else; on a slow, an unsure, a long way; in a hurry; where latency, energy or airtime is dear; and
        # two that send, of which the second is the worse.
        utility = np.array([0.5, 0.0, 0.0, 0.0, 0.4, 0.45, 0.45, 0.1, 0.05])
        utility[1:4] = 0.6 * np.array(
            [1.5e3 < rate_bps < 5e3, round_trip_s > 0.0 and rate_sigma_db > 3.0, time_left_s < 0.3]
        )
        ones = np.ones(9)
        latency_s, energy_j, airtime_s = 0.1 * ones, ones.copy(), ones.copy()
        latency_s[4], energy_j[5], airtime_s[6] = 0.0, 0.0, 0.0
        return Prediction(utility, latency_s, energy_j, airtime_s)


@pytest.mark.parametrize(
    ("prices", "kept"),
    [
        ([(0.0, 0.0, 0.0)], [0, 1, 2, 3, 7]),
        # It pays only where four wait: .3 (1 + 4) .1 is more than the .1 that it gives less.
        ([(0.3, 0.0, 0.0)], [0, 1, 2, 3, 4, 7]),
        ([(0.0, 0.1, 0.0)], [1, 2, 3, 5, 7]),
        ([(0.0, 0.0, 0.1)], [1, 2, 3, 6, 7]),
        ([(0.0, 0.1, 0.0), (0.0, 0.0, 0.1)], [1, 2, 3, 5, 6, 7]),
    ],
)
def test_what_wins_in_any_corner_is_kept_and_the_best_that_sends(
    prices: list[tuple[float, ...]], kept: list[int]
) -> None:
    predicted: Any = _Corners()
    assert best_somewhere(predicted, UtilityWeights(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0), prices) == kept


def test_between_the_rates_that_are_looked_at_hardly_anything_is_lost() -> None:
    kept = best_somewhere(PREDICTED, WEIGHTS, [(0.0, 0.0, 0.0)])
    assert len(kept) < 0.05 * len(PREDICTED.candidates)
    draws = np.random.default_rng(0)
    for _ in range(60):
        rate_bps, part = 10.0 ** draws.uniform(3, 8), draws.uniform(0.25, 1.0)
        queue = int(draws.integers(0, 5))
        values = PREDICTED.expect(rate_bps, REPORT_SIGMA_DB, 0.0, part * WEIGHTS.deadline_s, queue).utility
        assert values.max() - values[kept].max() < 3e-3


def test_one_that_always_sends_is_always_kept() -> None:
    ruinous = best_somewhere(PREDICTED, WEIGHTS, [(0.0, 0.0, 1e9)])
    sure = PREDICTED.expect(1e9, REPORT_SIGMA_DB, 0.0, WEIGHTS.deadline_s, 0).utility
    senders = [index for index in ruinous if PREDICTED.sends[index]]
    assert sure[senders].max() == sure[PREDICTED.sends].max()
