"""Values that a scenario cannot mean: refused in one line that names the field, and never a silent nothing."""

from __future__ import annotations

from typing import Any

import pytest

from splitpoint.errors import ConfigError
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

BUDGET = {"energy_j": 0.05}


@pytest.mark.parametrize("kind", ["best_static", "random", "greedy", "lyapunov", "bandit", "oracle"])
def test_a_policy_needs_an_exit_margin_to_choose(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"policies\.0\.{kind}\.exit_margins: List should have at least 1"):
        load_scenario("quickstart", {"policies": [{"kind": kind, "exit_margins": []}]})


@pytest.mark.parametrize(
    "policy",
    [
        {"kind": "lyapunov", "prices": [-1.0]},
        {"kind": "trained", "path": "a.safetensors", "prices": [-1.0]},
        {"kind": "oracle", "prices": [[-1.0]]},
    ],
)
def test_prices_are_not_below_zero(policy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"prices.*greater than or equal to 0"):
        load_scenario("quickstart", {"budgets": BUDGET, "policies": [policy]})


@pytest.mark.parametrize(
    ("policy", "budgets"),
    [
        ({"kind": "oracle", "prices": [[0.1]]}, BUDGET),
        ({"kind": "oracle", "prices": [[0.1, 0.2]] * 4}, BUDGET),
        ({"kind": "oracle", "prices": [[0.1]] * 4}, {}),
        ({"kind": "lyapunov", "prices": [0.1]}, {}),
    ],
)
def test_prices_are_as_many_as_budgets_and_devices(policy: dict[str, Any], budgets: dict[str, Any]) -> None:
    changes = {"budgets": budgets, "policies": [policy], "requests": 8}
    scenario = load_scenario("quickstart", changes)
    with pytest.raises(ConfigError, match=rf"policy '{policy['kind']}'.*prices"):
        VirtualEngine(Setup(scenario), "profile").run(scenario.policies[0])


def test_an_oracle_finds_prices_where_some_devices_have_no_request() -> None:
    changes = {"budgets": BUDGET, "policies": [{"kind": "oracle"}], "requests": 2}
    scenario = load_scenario("quickstart", changes)
    columns = VirtualEngine(Setup(scenario), "profile").run(scenario.policies[0])
    assert columns["device"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("training", "named"),
    [
        ({"deadline_s": -1.0}, "training: deadline_s: Input should be greater than 0"),
        ({"devicess": []}, "training: unknown key 'devicess': did you mean 'devices'"),
    ],
)
def test_what_is_wrong_in_training_is_said_to_be_there(training: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_scenario("quickstart", {"training": training})


def test_a_margin_to_refine_below_needs_something_to_refine_to() -> None:
    decision = {"split": 2, "bits": 2, "refine_margin": 0.9}
    policy = {"kind": "static", "name": "one", "decision": decision}
    with pytest.raises(ConfigError, match="refine_margin without refine_bits or refine_keep"):
        load_scenario("quickstart", {"policies": [policy]})


@pytest.mark.parametrize("place", ["", "edge/1", "../edge", "server", "channel"])
def test_a_process_of_learners_has_a_name_of_its_own(place: str) -> None:
    """Its log is called by it, in the folder of those of all processes."""
    quorum = {"learners": [{"name": "cifar10-plain", "place": place}]}
    with pytest.raises(ConfigError, match="quorum"):
        load_scenario("quorum", {"quorum": quorum})
