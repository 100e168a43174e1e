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


def test_a_file_may_have_dataclasses_whose_annotations_are_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from splitpoint.policies.decision import Decision\nfrom splitpoint.policies.static import Static\n"
        "@dataclass\nclass Options:\n    split: int = 6\n"
        "def make(deployment, profile):\n    return Static(Decision(Options().split))\n"
    )
    scenario = load_scenario(
        "quickstart", {"policies": [{"kind": "custom", "name": "a", "path": str(path)}], "requests": 4}
    )
    assert set(VirtualEngine(Setup(scenario), "profile").run(scenario.policies[0])["split"].tolist()) == {6}


@pytest.mark.parametrize(
    "text", ["import sys\nsys.exit(3)", "def make(deployment, profile):\n    raise SystemExit(3)"]
)
def test_a_file_that_ends_python_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(text)
    scenario = load_scenario("quickstart", {"policies": [{"kind": "custom", "name": "a", "path": str(path)}]})
    with pytest.raises(ConfigError, match=r"'a': .*script\.py: SystemExit: 3"):
        Setup(scenario).session(scenario.policies[0], 0)
