"""What policies predict against what virtual time gives, where nothing is left to chance."""

from __future__ import annotations

import numpy as np
import pytest

from splitpoint.policies.decision import NEVER, Decision
from splitpoint.policies.predicted import PredictedUtility
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.setup import Setup

from .conftest import changed

RATE_BPS, ROUND_TRIP_S, OVERHEAD_S, DEADLINE_S = 2e5, 0.02, 0.03, 5.0


@pytest.mark.parametrize("measured", [True, False])
def test_a_sent_request_takes_as_long_as_predicted(measured: bool) -> None:
    link = {"kind": "constant", "rate_bps": RATE_BPS, "round_trip_s": ROUND_TRIP_S if measured else 0.0}
    scenario = changed(
        devices=[{"count": 1, "overhead_s": OVERHEAD_S, "arrivals": {"kind": "periodic", "period_s": 2.0}}],
        channel={"link": link},
        deadline_s=DEADLINE_S,
        requests=20,
    )
    setup = Setup(scenario)
    decision = Decision(2, keep=0.25, dims=24, bits=4, exit_margin=NEVER)
    policy = StaticPolicy(name="sent", decision=DecisionConfig.of(decision))
    columns = VirtualEngine(setup, "profile").run(policy)
    assert not columns["local"].any()
    predicted = PredictedUtility(setup.calibration, [decision], setup.deployment(0))
    # What the device measures holds the overhead already; before the first reply it knows nothing else.
    round_trip_s = OVERHEAD_S + ROUND_TRIP_S if measured else 0.0
    expected = predicted.expect(RATE_BPS, 0.0, round_trip_s, DEADLINE_S, 0)
    np.testing.assert_allclose(columns["latency_s"], expected.latency_s[0], rtol=2e-3)
