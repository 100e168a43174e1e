"""The shipped scenarios: each needs several Decisions, some train on other traces, and some change on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitpoint.errors import ConfigError
from splitpoint.policies.decision import NEVER
from splitpoint.policies.inputs import hardest_first, input_samples
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.metrics import request_utility
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.scenario import built_in_scenarios, load_scenario
from splitpoint.sim.setup import Setup

CHOICES: tuple[dict[str, Any], ...] = (
    {"split": 0, "exit_margin": 0.5},
    {"split": 6, "exit_margin": 0.5},
    {"split": 6, "exit_margin": NEVER},
    {"split": 1, "keep": 0.125, "dims": 24, "bits": 2, "exit_margin": 0.5},
    {"split": 1, "keep": 0.25, "dims": 48, "bits": 4, "exit_margin": 0.5},
    {"split": 1, "dims": 96, "bits": 4, "exit_margin": 0.5},
    {"split": 2, "keep": 0.125, "dims": 24, "bits": 2, "exit_margin": 0.999},
)
OF_WHOLE_INPUTS: tuple[dict[str, Any], ...] = (
    {"split": 0},
    {"split": 2, "exit_margin": 0.9},
    {"split": 4, "exit_margin": 0.9},
    {"split": 6, "exit_margin": 0.5},
    {"split": 6, "exit_margin": NEVER},
)
"""Decisions for a quorum, which gets inputs as they are."""
REQUESTS = 240


@pytest.mark.parametrize("name", sorted(built_in_scenarios()))
def test_at_least_three_decisions_are_each_the_best_for_some_requests(name: str) -> None:
    """Of these, and the static policies of the scenario. Equal Decisions count once: a tie goes to the first."""
    scenario = load_scenario(name, {"requests": REQUESTS})
    engine = VirtualEngine(Setup(scenario), "profile")
    choices = CHOICES if scenario.quorum is None else OF_WHOLE_INPUTS
    policies = [StaticPolicy(name="static", decision=DecisionConfig(**choice)) for choice in choices]
    # No profile knows symbols, nor what merged samples answer.
    known = [p for p in scenario.policies if isinstance(p, StaticPolicy) and p.decision.merge == 1.0]
    policies += [p for p in known if not p.decision.symbols]
    utilities = [request_utility(engine.run(policy), scenario.weights()) for policy in policies]
    wins = np.bincount(np.stack(utilities).argmax(axis=0), minlength=len(policies))
    assert (wins >= 0.01 * REQUESTS).sum() >= 3, wins


@pytest.mark.parametrize("name", ["driving", "cellular"])
def test_policies_are_trained_on_other_traces(name: str) -> None:
    scenario = load_scenario(name)
    trained = scenario.for_training({"seed": 5})
    assert trained.channel != scenario.channel
    assert trained.seed == 5
    assert trained.devices == scenario.devices
    assert trained.policies == scenario.policies


def test_a_field_that_differs_in_training_must_be_valid() -> None:
    with pytest.raises(ConfigError, match="deadline_s"):
        load_scenario("quickstart", {"training": {"deadline_s": -1.0}})


def test_times_of_change_come_from_faults_windows_and_inputs() -> None:
    assert load_scenario("drift").changes_s() == [33.0, 66.0]
    assert load_scenario("outages").changes_s() == [50.0, 55.0]
    assert load_scenario("quickstart").changes_s() == []


def test_inputs_get_hard_when_the_scenario_says() -> None:
    setup = Setup(load_scenario("drift"))
    hard = set(hardest_first(setup.evaluation)[: round(0.2 * len(setup.evaluation))].tolist())
    times = setup.arrivals()
    for arrivals, samples in zip(times, setup.inputs(len(setup.evaluation), times), strict=True):
        for arrival_s, sample in zip(arrivals, samples, strict=True):
            assert (sample in hard) == (33.0 <= arrival_s < 66.0)


def test_a_longer_run_begins_with_the_inputs_of_a_shorter_one() -> None:
    order = np.arange(50)[::-1]
    share = [(0.0, 0.3), (5.0, 0.9)]
    arrivals = np.linspace(0.0, 10.0, 40).tolist()
    whole = input_samples(3, 1, arrivals, 50, share, order)
    assert input_samples(3, 1, arrivals[:25], 50, share, order) == whole[:25]
    assert set(whole) <= set(range(50))


@pytest.mark.parametrize("share", [[[3.0, 0.5], [1.0, 0.5]], [[0.0, 1.5]], [[-1.0, 0.5]]])
def test_shares_of_hard_inputs_are_checked(share: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="hard"):
        load_scenario("quickstart", {"data": {"hard_share": share}})


def test_what_lies_in_the_working_folder_hides_no_built_in_scenario(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fading").mkdir()
    (tmp_path / "steady").write_text("no scenario")
    assert load_scenario("fading").name == "fading"
    assert {"fading", "steady"} <= built_in_scenarios().keys()
