"""The bandit against ridge regression in closed form: what it takes after n outcomes, and what it never learns from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from splitpoint.policies.bandit import Bandit, context
from splitpoint.policies.belief import predict
from splitpoint.policies.confidence import Confidence
from splitpoint.policies.greedy import Greedy, GreedyTables
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

SETUP = Setup(load_scenario("quickstart"))
DEPLOYMENT = SETUP.deployment(0)
WEIGHTS = DEPLOYMENT.weights
TABLES = GreedyTables(SETUP.calibration, DEPLOYMENT, (0.5, 0.95))
CANDIDATES = TABLES.predicted.candidates
SEEN = Observation(15.0, 5e6, 1.0, 0.01, 3, 2.0, math.inf, 0.2, True)
SURE = Confidence(np.array([-9.0, 9.0]), np.array([-9.0, 9.0]))
"""Takes a margin for the probability itself, whatever it is, so that an outcome of any reward can be made up."""


def bandit(device: int = 0, **changes: Any) -> Bandit:
    options = {"rule": "ucb", "width": 0.0, "ridge": 2.0, "memory": 1.0, "explore_after": 1e9, **changes}
    return Bandit(TABLES, SURE, device, **options)


def outcome(arm: int, above: float, seen: Observation = SEEN) -> Outcome:
    """An outcome of this candidate that is so much better than predicted.

    It arrived before the decision, late as it was, and the device's queue waits for it.
    """
    found = predict(TABLES.predicted, seen)
    latency_s = WEIGHTS.deadline_s - seen.time_left_s + float(found.latency_s[arm])
    costs = (
        WEIGHTS.latency * (1 + seen.device_queue) * found.latency_s[arm] / WEIGHTS.deadline_s
        + WEIGHTS.energy * found.energy_j[arm] / WEIGHTS.energy_ref_j
        + WEIGHTS.airtime * found.airtime_s[arm] / WEIGHTS.airtime_ref_s
        + WEIGHTS.late
    )
    margin = float(found.utility[arm] + costs + above)
    energy_j, airtime_s = float(found.energy_j[arm]), float(found.airtime_s[arm])
    return Outcome(CANDIDATES[arm], 0, True, False, True, margin, latency_s, energy_j, airtime_s, 100)


def two_best() -> tuple[int, float]:
    """The candidate predicted best, and by how much."""
    values = predict(TABLES.predicted, SEEN).utility
    order = np.argsort(-values)
    return int(order[0]), float(values[order[0]] - values[order[1]])


def test_without_data_it_is_greedy() -> None:
    greedy, plain = Greedy(TABLES), bandit()
    for rate_bps in np.logspace(3, 7, 20):
        seen = SEEN._replace(rate_bps=float(rate_bps))
        assert plain.decide(seen) == greedy.decide(seen)


@pytest.mark.parametrize("memory", [1.0, 0.7])
@pytest.mark.parametrize("width", [0.0, 0.02])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("more", [-1e-3, 1e-3])
def test_it_leaves_a_candidate_when_ridge_regression_says_so(
    memory: float, width: float, count: int, more: float
) -> None:
    arm, gap = two_best()
    square = float(np.square(context(SEEN, WEIGHTS.deadline_s)).sum())
    weight = sum(memory**age for age in range(count))
    # After `count` outcomes the belief about the arm is error * weight |x|^2 / (ridge + weight |x|^2), and its standard
    # deviation |x| / sqrt(ridge + weight |x|^2); of the others nothing is known yet.
    deviations = width * math.sqrt(square) * (1 / math.sqrt(2.0) - 1 / math.sqrt(2.0 + weight * square))
    error = (gap - deviations) * (1.0 + more) * (2.0 + weight * square) / (weight * square)
    policy = bandit(memory=memory, width=width)
    for _ in range(count):
        assert policy.decide(SEEN) == CANDIDATES[arm]
        policy.learn(outcome(arm, -error))
    assert (policy.decide(SEEN) == CANDIDATES[arm]) == (more < 0)
    policy.reset(0)
    assert policy.decide(SEEN) == CANDIDATES[arm]


@pytest.mark.parametrize("other", [False, True])
def test_an_outcome_of_another_decision_teaches_nothing(other: bool) -> None:
    arm, _ = two_best()
    policy = bandit()
    for _ in range(3):
        decision = policy.decide(SEEN)
        bad = outcome(arm, -5.0)
        policy.learn(bad._replace(decision=CANDIDATES[arm - 1]) if other else bad)
    assert (decision == CANDIDATES[arm]) == other


def test_what_was_decided_once_is_learned_from_once() -> None:
    arm, gap = two_best()
    square = float(np.square(context(SEEN, WEIGHTS.deadline_s)).sum())
    policy = bandit()
    policy.decide(SEEN)
    # One outcome is not enough to leave it; as members of one batch, the others are not counted again.
    error = 0.9 * gap * (2.0 + square) / square
    for _ in range(5):
        policy.learn(outcome(arm, -error))
    assert policy.decide(SEEN) == CANDIDATES[arm]


def test_draws_of_thompson_are_keyed_by_seed_and_device() -> None:
    def decided(device: int, seed: int) -> list[Any]:
        policy = bandit(device, rule="thompson", width=1.0)
        policy.reset(seed)
        return [policy.decide(SEEN) for _ in range(20)]

    assert decided(0, 1) == decided(0, 1)
    assert len({tuple(decided(device, seed)) for device, seed in ((0, 1), (1, 1), (0, 2))}) == 3


def test_the_context_is_of_order_one() -> None:
    seen = SEEN._replace(rate_bps=1e8, rate_sigma_db=math.sqrt(99.0), time_left_s=0.25, device_queue=1)
    np.testing.assert_allclose(context(seen, 0.5), [1.0, 2.0 / 3.0, 1.0, 0.5, 0.25, 0.125])
    worst = SEEN._replace(time_left_s=-9.0, device_queue=99, server_load=99.0)
    np.testing.assert_allclose(context(worst, 0.5)[3:], [-1.0, 1.0, 1.0])
    assert context(SEEN._replace(server_load=math.nan), 0.5)[5] == 0.0
