"""Training: the exported file decides as the trained network does, resumes, and keeps to calibration data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO

from splitpoint.cli import main
from splitpoint.errors import DataError, UsageError
from splitpoint.policies.environments.vector import OffloadVectorEnv
from splitpoint.policies.trained_file import load_trained
from splitpoint.sim.environments import environment_config
from splitpoint.sim.policy_config import OraclePolicy, TrainedPolicy
from splitpoint.sim.rl_env import TrainingVecEnv
from splitpoint.sim.rl_evaluate import evaluate_policies
from splitpoint.sim.rl_train import PolicyTraining, train_policy
from splitpoint.sim.scenario import Scenario, load_scenario
from splitpoint.sim.setup import Setup

SMALL: dict[str, Any] = {"copies": 8, "episode_requests": 16, "warm": False, "hidden": (8,)}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return load_scenario("quickstart", {"budgets": {"airtime_s": 0.05}, "requests": 60})


@pytest.fixture(scope="module")
def trained(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ppo") / "p.safetensors"
    train_policy(scenario, PolicyTraining(steps=256, **SMALL), out)
    return out


def _scores(out: Path, expected: Any) -> None:
    """The exported network against what `expected` gives for the same rows."""
    network = load_trained(out)
    rows = np.random.default_rng(0).random((5, len(network.card.observation)), np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(network(rows), expected(torch.as_tensor(rows)).numpy(), atol=1e-5)


def _actor(model: Any) -> Any:
    return lambda rows: model.policy.action_net(model.policy.mlp_extractor.forward_actor(rows))


def test_ppos_file_scores_actions_as_its_network_does(trained: Path) -> None:
    assert load_trained(trained).card.budgets == ("airtime_s",)
    _scores(trained, _actor(PPO.load(trained.with_suffix(".checkpoint.zip"), device="cpu")))


@pytest.mark.parametrize("algorithm", ["maskable-ppo", "dqn"])
def test_other_algorithms_files_do_too(algorithm: Any, scenario: Scenario, tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    train_policy(scenario, PolicyTraining(algorithm=algorithm, steps=256, **SMALL), out)
    kind = DQN if algorithm == "dqn" else MaskablePPO
    model = kind.load(out.with_suffix(".checkpoint.zip"), device="cpu")
    _scores(out, model.policy.q_net if algorithm == "dqn" else _actor(model))


def test_equal_seeds_train_equal_policies_and_a_run_goes_on_where_it_was(
    trained: Path, scenario: Scenario, tmp_path: Path
) -> None:
    out = tmp_path / "p.safetensors"
    training = PolicyTraining(steps=256, **SMALL)
    first = train_policy(scenario, training, out)
    assert out.read_bytes() == trained.read_bytes()
    longer = train_policy(scenario, training.model_copy(update={"steps": 2 * first.steps}), out)
    assert longer.steps == 2 * first.steps
    with pytest.raises(DataError, match="another training"):
        train_policy(scenario, training.model_copy(update={"seed": 1}), out)


def test_a_training_that_goes_on_meets_new_episodes(scenario: Scenario) -> None:
    config = environment_config(scenario, episode_requests=16)
    profile = Setup(scenario).calibration

    def first(steps: int) -> tuple[np.ndarray, np.ndarray]:
        env = TrainingVecEnv(OffloadVectorEnv(config, profile, 64), scenario.budgets.budgets(), seed=3)
        if steps:
            env.resume(steps)
        env.reset()
        for _ in range(4):
            env.step_async(np.zeros((64, len(env.envs.actions.axes)), int))
            rows = env.step_wait()[0]
        return rows, env.prices

    for a, b in ((0, 640), (640, 1280)):
        assert all((x != y).any() for x, y in zip(first(a), first(b), strict=True))
    assert all((x == y).all() for x, y in zip(first(640), first(640), strict=True))


def test_a_checkpoint_of_another_scenario_is_refused(trained: Path, scenario: Scenario) -> None:
    training = PolicyTraining(steps=256, **SMALL)
    changed = scenario.model_copy(update={"deadline_s": 0.5 * scenario.deadline_s})
    with pytest.raises(DataError, match="another training"):
        train_policy(changed, training, trained)


def test_a_broken_checkpoint_is_told(trained: Path, scenario: Scenario, tmp_path: Path) -> None:
    for suffix in (".zip", ".json"):
        broken = tmp_path / f"p.checkpoint{suffix}"
        broken.write_bytes(trained.with_suffix(f".checkpoint{suffix}").read_bytes())
    (tmp_path / "p.checkpoint.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="remove it to train anew"):
        train_policy(scenario, PolicyTraining(steps=256, **SMALL), tmp_path / "p.safetensors")


def test_a_place_that_cannot_be_written_is_told_before_training(scenario: Scenario, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "p.safetensors"):
        with pytest.raises(DataError, match="cannot write the policy"):
            train_policy(scenario, PolicyTraining(steps=10**9, **SMALL), out, progress=pytest.fail)


def test_a_grid_of_fields_is_no_list_for_dqn(scenario: Scenario, tmp_path: Path) -> None:
    training = PolicyTraining(algorithm="dqn", choices="grid", **SMALL)
    with pytest.raises(UsageError, match="pruned"):
        train_policy(scenario, training, tmp_path / "p.safetensors")


def test_training_needs_a_profile_of_the_scenarios_coder(scenario: Scenario, tmp_path: Path) -> None:
    other = scenario.model_copy(update={"coder": "ans"})
    with pytest.raises(UsageError, match="coder 'packed', not 'ans'"):
        train_policy(other, PolicyTraining(steps=256, **SMALL), tmp_path / "p.safetensors")


def test_a_seed_that_numpy_cannot_take_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["policy", "train", "--seed", str(2**32), "--out", str(tmp_path / "p.safetensors")])
    assert stopped.value.code == 2
    assert "--seed" in capsys.readouterr().err


def test_evaluation_is_paired_and_ranks(trained: Path, scenario: Scenario) -> None:
    local = scenario.policy("local")
    twin = local.model_copy(update={"name": "twin"})
    policy = TrainedPolicy(path=trained, prices=(0.01,))
    found = evaluate_policies(scenario, [policy, local, twin, OraclePolicy(prices=((0.0,),) * 4)], [0, 1])
    rows = {row["policy"]: row for row in found.rows}
    assert set(rows) == {"trained", "local", "twin", "random", "oracle"}
    assert rows["local"]["utility"] == rows["twin"]["utility"]
    assert rows["oracle"]["utility"] == max(row["utility"] for row in found.rows)
    assert rows["oracle"]["share"] == pytest.approx(1.0)
    assert rows["random"]["share"] == pytest.approx(0.0)
    with pytest.raises(UsageError, match="two seeds"):
        evaluate_policies(scenario, [local], [0])


def test_the_ends_of_the_share_are_what_their_names_say(scenario: Scenario) -> None:
    local = scenario.policy("local")
    for policies in (
        [local, local],
        [local.model_copy(update={"name": "random"})],
        [local.model_copy(update={"name": "oracle"})],
        [OraclePolicy(labels=True)],
    ):
        with pytest.raises(UsageError, match=r"'(local|random|oracle)'"):
            evaluate_policies(scenario, policies, [0, 1])


def test_who_is_clairvoyant_is_no_question_of_names(scenario: Scenario) -> None:
    few = scenario.model_copy(update={"requests": 8})
    static = scenario.policy("local").model_copy(update={"name": "no-oracle"})
    seer = OraclePolicy(name="seer", prices=((0.0,),) * 4, exit_margins=(0.5,))
    rows = evaluate_policies(few, [static, seer, seer.model_copy(update={"name": "oracle"})], [0, 1]).rows
    assert {row["policy"] for row in rows if row["clairvoyant"]} == {"seer", "oracle"}


def test_policies_are_trained_on_one_thread(scenario: Scenario, tmp_path: Path) -> None:
    """Several wait for each other on a busy machine, and round otherwise than one."""
    import torch

    threads: set[int] = set()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train_policy(
            scenario,
            PolicyTraining(steps=256, **SMALL),
            tmp_path / "p.safetensors",
            progress=lambda _: threads.add(torch.get_num_threads()),
        )
    finally:
        torch.set_num_threads(before)
    assert threads == {1}
