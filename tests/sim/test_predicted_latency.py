"""What policies predict against what virtual time gives, where nothing is left to chance."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from splitpoint.policies.decision import NEVER, Decision
from splitpoint.policies.outcomes import walk
from splitpoint.policies.predicted import PredictedUtility, Prediction
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.records import Table
from splitpoint.sim.setup import Setup

from .conftest import changed

RATE_BPS, ROUND_TRIP_S, OVERHEAD_S, DEADLINE_S = 2e5, 0.02, 0.03, 5.0


def _sent(link: dict[str, Any], decision: Decision, deadline_s: float) -> tuple[Setup, Table]:
    """Twenty requests of one device, far apart."""
    scenario = changed(
        devices=[{"count": 1, "overhead_s": OVERHEAD_S, "arrivals": {"kind": "periodic", "period_s": 2.0}}],
        channel={"link": {"kind": "constant", **link}},
        deadline_s=deadline_s,
        requests=20,
    )
    setup = Setup(scenario)
    policy = StaticPolicy(name="sent", decision=DecisionConfig.of(decision))
    columns = VirtualEngine(setup, "profile").run(policy)
    assert columns["offloaded"].all()
    return setup, columns


DECISION = Decision(2, keep=0.25, dims=24, bits=4, exit_margin=NEVER)


@pytest.mark.parametrize("measured", [True, False])
def test_a_sent_request_costs_what_is_predicted(measured: bool) -> None:
    round_trip_s = ROUND_TRIP_S if measured else 0.0
    setup, columns = _sent({"rate_bps": RATE_BPS, "round_trip_s": round_trip_s}, DECISION, DEADLINE_S)
    assert not columns["local"].any()
    predicted = PredictedUtility(setup.calibration, [DECISION], setup.deployment(0))
    # What the device measures holds the overhead already; before the first reply it knows nothing else.
    known_s = OVERHEAD_S + ROUND_TRIP_S if measured else 0.0
    expected = predicted.expect(RATE_BPS, 0.0, known_s, DEADLINE_S, 0)
    np.testing.assert_allclose(columns["latency_s"], expected.latency_s[0], rtol=2e-3)
    airtime_s = columns["airtime_up_s"] + columns["airtime_down_s"]
    np.testing.assert_allclose(airtime_s, expected.airtime_s[0], rtol=2e-3)
    np.testing.assert_allclose(columns["energy_j"], expected.energy_j[0], rtol=2e-3)


@pytest.mark.parametrize("split", [0, 2])
def test_a_request_without_a_reply_costs_what_is_predicted(split: int) -> None:
    decision = replace(DECISION, split=split) if split else Decision(0, exit_margin=NEVER)
    setup, columns = _sent({"rate_bps": 1e3, "round_trip_s": 0.0}, decision, 1.0)
    assert columns["degraded"].all()
    predicted = PredictedUtility(setup.calibration, [decision], setup.deployment(0))
    expected = predicted.expect(1e3, 0.0, 0.0, 1.0, 0)
    np.testing.assert_allclose(columns["latency_s"], expected.latency_s[0], rtol=1e-6)
    np.testing.assert_allclose(columns["airtime_up_s"], expected.airtime_s[0], rtol=1e-6)
    np.testing.assert_allclose(columns["energy_j"], expected.energy_j[0], rtol=1e-6)


def test_utility_is_the_share_of_right_answers_less_what_they_cost_all_that_wait() -> None:
    setup = Setup(changed())
    profile, deployment = setup.calibration, setup.deployment(0)
    weights = deployment.weights._replace(late=0.3)
    predicted = PredictedUtility(profile, [DECISION], deployment._replace(weights=weights))
    outcomes = walk(profile, DECISION)
    for right, rate_bps in ((outcomes.prediction, 1e9), (outcomes.fallback, 1.0)):
        found = predicted.expect(rate_bps, 0.0, 0.01, weights.deadline_s, 3)
        latency = weights.latency * (1 + 3) * found.latency_s / weights.deadline_s
        energy = weights.energy * found.energy_j / weights.energy_ref_j
        airtime = weights.airtime * found.airtime_s / weights.airtime_ref_s
        share = (right == profile.labels).mean()
        np.testing.assert_allclose(found.utility, share - latency - energy - airtime, rtol=1e-6)
    # Samples whose exit is sure are answered by it, and only the others fall back.
    split = replace(DECISION, split=3, exit_margin=0.999)
    outcomes = walk(profile, split)
    assert 0.1 < outcomes.local.mean() < 0.9
    right = np.where(outcomes.local, outcomes.prediction, outcomes.fallback) == profile.labels
    plain = deployment._replace(weights=weights._replace(latency=0.0, energy=0.0, airtime=0.0, late=0.0))
    [found] = PredictedUtility(profile, [split], plain).expect(1.0, 0.0, 0.01, weights.deadline_s, 0).utility
    assert found == pytest.approx(right.mean(), rel=1e-6)
    outcomes = walk(profile, DECISION)
    # Too late even for the first exit.
    late = predicted.expect(1e9, 0.0, 0.01, 0.0, 0)
    cost = (
        weights.latency * late.latency_s / weights.deadline_s
        + weights.energy * late.energy_j / weights.energy_ref_j
    )
    np.testing.assert_allclose(
        late.utility, (outcomes.fallback == profile.labels).mean() - cost - 0.3, rtol=1e-6
    )


def test_a_rate_that_is_not_sure_makes_a_tight_deadline_less_sure() -> None:
    setup = Setup(changed())
    predicted = PredictedUtility(setup.calibration, [DECISION], setup.deployment(0))
    # At this rate the reply would be there at the last moment: every other one is not.
    sure = predicted.expect(1e9, 0.0, 0.01, 0.3, 0)
    budget_s = 0.3 - setup.deployment(0).slack_s - sure.latency_s[0]
    bits = float(sure.airtime_s[0]) * 1e9
    tight, loose = (predicted.expect(part * bits / budget_s, 3.0, 0.01, 0.3, 0) for part in (1.0, 4.0))
    outcomes = walk(setup.calibration, DECISION)
    right, fallen = (
        float((p == setup.calibration.labels).mean()) for p in (outcomes.prediction, outcomes.fallback)
    )

    def share(found: Prediction) -> float:
        """Of requests that are answered by the server, by what is right among them."""
        weights = setup.deployment(0).weights
        costs = (
            weights.latency * found.latency_s[0] / weights.deadline_s
            + weights.energy * found.energy_j[0] / weights.energy_ref_j
            + weights.airtime * found.airtime_s[0] / weights.airtime_ref_s
        )
        return float((found.utility[0] + costs - fallen) / (right - fallen))

    # The mean of 1 / rate over a log-normal rate is above 1 / its median.
    long, longer = (predicted.expect(1e6, sigma_db, 0.01, 9.0, 0).airtime_s[0] for sigma_db in (0.1, 3.0))
    assert longer / long == pytest.approx(math.exp(0.5 * (0.3 * math.log(10.0)) ** 2), rel=1e-3)
    assert share(tight) == pytest.approx(0.5, abs=0.01)
    # Twice the standard deviation: the normal distribution's, which the logistic one comes near to.
    assert share(loose) == pytest.approx(0.977, abs=0.012)
