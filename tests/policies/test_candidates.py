"""Which Decisions policies choose among: all of the grid, and nothing that wins is left out."""

from __future__ import annotations

import numpy as np
import pytest

from splitpoint.policies.belief import REPORT_SIGMA_DB
from splitpoint.policies.candidates import best_somewhere, grid_decisions
from splitpoint.policies.predicted import PredictedUtility
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


@pytest.mark.parametrize("price", [(0.0, 0.0, 0.0), (2.0, 0.0, 0.0), (0.0, 3.0, 0.0), (0.0, 0.0, 4.0)])
@pytest.mark.parametrize("queue", [0, 4])
def test_nothing_that_wins_is_left_out_and_nothing_else_is_kept(price: tuple[float, ...], queue: int) -> None:
    kept = best_somewhere(PREDICTED, WEIGHTS, [price])
    assert kept == sorted(set(kept))
    assert len(kept) < 0.2 * len(PREDICTED.candidates)
    draws = np.random.default_rng(queue)
    lost = []
    for _ in range(60):
        rate_bps, part = 10.0 ** draws.uniform(3, 8), draws.uniform(0.25, 1.0)
        found = PREDICTED.expect(rate_bps, REPORT_SIGMA_DB, 0.0, part * WEIGHTS.deadline_s, queue)
        # Those that wait behind pay the price of latency too.
        latency = (1 + queue) * price[0] * found.latency_s / WEIGHTS.deadline_s
        energy = price[1] * found.energy_j / WEIGHTS.energy_ref_j
        airtime = price[2] * found.airtime_s / WEIGHTS.airtime_ref_s
        value = found.utility - latency - energy - airtime
        lost.append(value.max() - value[kept].max())
    # Between the rates that are looked at, a hair may be lost.
    assert np.mean(lost) < 2e-3
    assert max(lost) < 0.02


def test_one_that_always_sends_is_always_kept() -> None:
    ruinous = best_somewhere(PREDICTED, WEIGHTS, [(0.0, 0.0, 1e9)])
    sure = PREDICTED.expect(1e9, REPORT_SIGMA_DB, 0.0, WEIGHTS.deadline_s, 0).utility
    senders = [index for index in ruinous if PREDICTED.sends[index]]
    assert sure[senders].max() == sure[PREDICTED.sends].max()
