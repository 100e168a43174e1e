"""Trained policies: one file, numpy alone, equal to the network that was trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from splitpoint.errors import ConfigError, DataError
from splitpoint.models.store import load_network
from splitpoint.policies.budgets import Budgets
from splitpoint.policies.decision import NEVER, Decision
from splitpoint.policies.features import FEATURES
from splitpoint.policies.memory import MEMORY
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome
from splitpoint.policies.trained import Trained
from splitpoint.policies.trained_file import TrainedCard, TrainedNetwork, load_trained, save_trained
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import TrainedPolicy
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

GOOD = Observation(15.0, 5e6, 1.0, 0.01, 0, 0.0, math.inf, 0.3, True)
LIST = tuple(
    {"split": split, "keep": 0.125, "dims": 24.0, "bits": 2.0, "exit_margin": 0.5, "offload_slope": -NEVER}
    for split in (0.0, 1.0, 6.0)
)


def _card(budgets: tuple[str, ...] = (), **changes: Any) -> TrainedCard:
    names = (*(f.name for f in FEATURES), *MEMORY, *(f"price_{name}" for name in budgets))
    values: dict[str, Any] = {
        "algorithm": "ppo", "environment": "splitpoint/Offload-v0", "scenario": "quickstart", "seed": 0, "steps": 1,
        "model_id": load_network("clutter")[1].id, "depth": 6, "deadline_s": 0.3,
        "budgets": budgets, "observation": names,
        "mean": (0.0,) * len(names), "scale": (1.0,) * len(names), "layers": 1, "decisions": LIST,
    }  # fmt: skip
    return TrainedCard(**values | changes)


def _by(name: str, weight: float, budgets: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Sends raw inputs unless weight times one input is above 0.5: then all local."""
    card = _card(budgets)
    matrix = np.zeros((3, len(card.observation)), np.float32)
    matrix[2, card.observation.index(name)] = weight
    return {"weight.0": matrix, "bias.0": np.array([0.5, 0.0, 0.0], np.float32)}


def test_an_input_that_is_no_number_counts_as_the_mean() -> None:
    card = _card()
    network = TrainedNetwork(
        card.model_copy(update={"mean": (3.0,) * len(card.observation)}), _by("device_queue", 1.0)
    )
    x = np.full(len(card.observation), 3.0, np.float32)
    assert network(x * np.float32(np.nan)).tolist() == network(x).tolist()


def test_it_decides_by_the_observation(tmp_path: Path) -> None:
    save_trained(tmp_path / "p.safetensors", _card(), _by("device_queue", 1.0))
    policy = Trained(load_trained(tmp_path / "p.safetensors"), Budgets())
    assert policy.decide(GOOD) == Decision(0, 0.125, 24, 2, exit_margin=0.5)
    assert policy.decide(GOOD._replace(device_queue=3)).split == 6
    unknown = GOOD._replace(snr_db=math.nan, rate_bps=math.nan, rate_sigma_db=math.nan, round_trip_s=math.nan)
    assert policy.decide(unknown).split == 0


def test_it_remembers_its_own_requests_until_it_is_reset(tmp_path: Path) -> None:
    save_trained(tmp_path / "p.safetensors", _card(), _by("unsent", 1.0))
    policy = Trained(load_trained(tmp_path / "p.safetensors"), Budgets())
    for _ in range(3):
        policy.learn(Outcome(Decision(6), 6, False, False, False, 1.0, 0.1, 0.1, 0.0, 0))
    assert policy.decide(GOOD).split == 6
    policy.reset(0)
    assert policy.decide(GOOD).split == 0


def test_a_budget_that_is_overspent_raises_its_price(tmp_path: Path) -> None:
    budgets = ("airtime_s",)
    save_trained(tmp_path / "p.safetensors", _card(budgets), _by("price_airtime_s", 1.0, budgets))
    policy = Trained(load_trained(tmp_path / "p.safetensors"), Budgets(airtime_s=0.01), v=20.0)
    assert policy.decide(GOOD).split == 0
    begun = policy.queues.backlog.copy()
    spent = [0.05, 0.0, 0.03, 0.02]
    for airtime_s in spent:
        policy.learn(Outcome(Decision(0), 0, True, False, False, 1.0, 0.1, 0.1, airtime_s, 3000))
    assert np.mean(spent) / 0.01 - 1.0 <= (policy.queues.backlog[0] - begun[0]) / len(spent) + 1e-9
    assert policy.decide(GOOD).split == 6


def test_axes_make_a_decision_of_one_level_each(tmp_path: Path) -> None:
    axes = {
        "split": (0.0, 2.0),
        "keep": (1.0, 0.5),
        "dims": (96.0, 24.0),
        "bits": (8.0, 2.0),
        "exit_margin": (0.5, 0.9),
    }
    card = _card(decisions=(), axes=axes)
    bias = np.array([0, 1, 0, 1, 0, 1, 1, 0, 0, 1], np.float32)
    arrays = {"weight.0": np.zeros((10, len(card.observation)), np.float32), "bias.0": bias}
    save_trained(tmp_path / "p.safetensors", card, arrays)
    policy = Trained(load_trained(tmp_path / "p.safetensors"), Budgets())
    assert policy.decide(GOOD) == Decision(2, 0.5, 24, 8, exit_margin=0.9)


def test_files_that_are_no_trained_policy_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.safetensors"):
        load_trained(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(DataError, match=r"text\.safetensors"):
        load_trained(tmp_path / "text.safetensors")
    arrays = _by("unsent", 1.0)
    short = {name: values[:2] for name, values in arrays.items()}
    save_trained(tmp_path / "p.safetensors", _card(), short)
    with pytest.raises(DataError, match="2 outputs"):
        load_trained(tmp_path / "p.safetensors")
    with pytest.raises(DataError, match=r"no trained policy of this version: algorithm: Field required$"):
        load_trained(Path(Setup(load_scenario("quickstart")).model_path))
    save_file(arrays, tmp_path / "p.safetensors")
    with pytest.raises(DataError, match="no trained policy: there is no card in it"):
        load_trained(tmp_path / "p.safetensors")


def test_a_policy_that_could_only_be_replaced_or_decide_alike_is_refused(tmp_path: Path) -> None:
    path, arrays = tmp_path / "p.safetensors", _by("unsent", 1.0)
    for name in arrays:
        save_trained(path, _card(), arrays | {name: arrays[name] * np.float32(np.nan)})
        with pytest.raises(DataError, match=r"p\.safetensors: the network's weights are no numbers"):
            load_trained(path)
    for wrong in ({"keep": 3.0}, {"speed": 1.0}):
        save_trained(path, _card(decisions=(LIST[0] | wrong, *LIST[1:])), arrays)
        with pytest.raises(DataError, match="no trained policy"):
            load_trained(path)
    for wrong in (
        {"split": (0, 6), "keep": (3.0,)},
        {"split": (0, 6), "speed": (1.0,)},
        {"split": (0, 1, 6), "keep": ()},
    ):
        save_trained(path, _card(decisions=(), axes=wrong), arrays)
        with pytest.raises(DataError, match="no trained policy"):
            load_trained(path)
    save_trained(path, _card().model_copy(update={"format": 2}), arrays)
    with pytest.raises(DataError, match="no trained policy of this version"):
        load_trained(path)


def test_scenarios_use_the_file_and_refuse_one_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_trained(path, _card(), _by("device_queue", 1.0))
    scenario = load_scenario("quickstart", {"requests": 60})
    columns = VirtualEngine(Setup(scenario), "profile").run(TrainedPolicy(path=path))
    assert set(columns["split"].tolist()) == {0, 6}
    assert not columns["policy_replaced"].any()
    budget = load_scenario("quickstart", {"budgets": {"airtime_s": 0.01}})
    with pytest.raises(ConfigError, match="trained without one"):
        Setup(budget).session(TrainedPolicy(path=path), 0)
    save_trained(path, _card(model_id="0" * 16), _by("device_queue", 1.0))
    with pytest.raises(ConfigError, match="trained for the network 0000000000000000"):
        Setup(scenario).session(TrainedPolicy(path=path), 0)
    save_trained(path, _card(depth=12), _by("device_queue", 1.0))
    with pytest.raises(ConfigError, match="depth 12"):
        Setup(scenario).session(TrainedPolicy(path=path), 0)
