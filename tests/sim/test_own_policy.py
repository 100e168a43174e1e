"""The example of a user's own policy runs in a scenario, and learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitpoint.errors import ConfigError
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.metrics import request_utility
from splitpoint.sim.run import policies_named
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "own_policy.py"


def test_the_example_adapts_and_beats_always_sending() -> None:
    own = {"kind": "custom", "name": "mine", "path": str(EXAMPLE), "factory": "Threshold"}
    send = {"kind": "static", "name": "send", "decision": {"split": 0, "exit_margin": 0.9}}
    scenario = load_scenario("driving", {"policies": [own, send], "requests": 300})
    engine = VirtualEngine(Setup(scenario), "profile")
    mine, always = (engine.run(policy) for policy in policies_named(scenario, []))
    assert not mine["policy_replaced"].any()
    assert set(mine["split"].tolist()) == {0, 6}
    weights = scenario.weights()
    assert request_utility(mine, weights).mean() > request_utility(always, weights).mean() + 0.02


def test_factories_that_are_not_there_are_named(tmp_path: Path) -> None:
    scenario = load_scenario("quickstart", {"policies": [
        {"kind": "custom", "name": "a", "path": str(tmp_path / "no.py")},
        {"kind": "custom", "name": "b", "path": str(EXAMPLE), "factory": "Nothing"},
    ]})  # fmt: skip
    setup = Setup(scenario)
    with pytest.raises(ConfigError, match=r"'a': there is no file .*no\.py"):
        setup.session(scenario.policies[0], 0)
    with pytest.raises(ConfigError, match=r"'b'.*Nothing"):
        setup.session(scenario.policies[1], 0)
