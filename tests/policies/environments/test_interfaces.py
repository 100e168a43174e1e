"""Gymnasium's, Stable-Baselines3's and PettingZoo's own checks, seeds, masks and arguments."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env

from splitpoint.errors import GridError, UsageError
from splitpoint.models.profile import Profile
from splitpoint.policies.decision import Decision
from splitpoint.policies.environments.offload import OffloadEnv
from splitpoint.policies.environments.shared import SharedOffloadEnv
from splitpoint.sim import environments
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

from .conftest import config

IDS = [name for name in gymnasium.registry if name.startswith("splitpoint/")]


def rollout(env: Any, seed: int, steps: int = 60) -> list[Any]:
    """Observations and rewards under actions that depend on the seed 0 only."""
    env.action_space.seed(0)
    seen: list[Any] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        seen += [observation, reward]
        if np.any(terminated) or np.any(truncated):
            seen.append(env.reset()[0])
    return seen


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_all_ids_are_registered() -> None:
    assert {"splitpoint/Offload-v0", "splitpoint/RecursiveExit-v0"} <= set(IDS)


@pytest.mark.parametrize("name", IDS)
def test_both_checkers_pass_without_a_warning(name: str) -> None:
    env = gymnasium.make(name, episode_requests=50).unwrapped
    check_env(env)
    sb3_check_env(env)


@pytest.mark.parametrize("name", IDS)
def test_equal_seeds_give_equal_rollouts_and_others_differ(name: str) -> None:
    env = gymnasium.make(name, episode_requests=20)
    first = rollout(env, 3)
    assert same(first, rollout(env, 3))
    assert not same(first, rollout(env, 4))


def test_vector_environment_by_its_id() -> None:
    env = gymnasium.make_vec(
        "splitpoint/Offload-v0",
        6,
        "vector_entry_point",
        scenario="quickstart",
        episode_requests=20,
        link_paths=3,
    )
    first = rollout(env, 3, 30)
    assert first[0] in env.observation_space
    assert same(first, rollout(env, 3, 30))
    assert not same(first, rollout(env, 4, 30))
    assert (first[1][0] != first[1][1:]).any(), "copies walk paths of their own"


def test_a_step_of_the_vector_environment_takes_an_action_of_each_copy_after_a_reset() -> None:
    env = environments.make_offload_vector(2, episode_requests=3, link_paths=2)
    with pytest.raises(UsageError, match="reset this environment before its first step"):
        env.step(env.action_space.sample())
    env.reset(seed=0)
    for actions in (None, np.zeros((3, 6), int), np.zeros((1, 6), int)):
        with pytest.raises(UsageError, match="a step takes 2 actions"):
            env.step(actions)


def test_vector_environment_resets_all_copies_by_the_step_that_ends_them() -> None:
    env = gymnasium.make_vec(
        "splitpoint/Offload-v0", 4, "vector_entry_point", episode_requests=3, link_paths=2
    )
    env.reset(seed=0)
    for step in range(1, 7):
        observations, _, _, truncated, infos = env.step(env.action_space.sample())
        assert truncated.all() == (step % 3 == 0)
        assert ("final_obs" in infos) == (step % 3 == 0)
        # A new episode knows nothing of its link.
        assert (observations[:, 0] == 0.0).all() or step % 3


def test_parallel_environment_passes_pettingzoos_test(profile: Profile) -> None:
    parallel_api_test(SharedOffloadEnv(config(), profile, devices=3), num_cycles=50)


@pytest.mark.parametrize("make", [environments.make_offload, environments.parallel_env])
def test_without_a_seed_two_environments_walk_different_paths(make: Any) -> None:
    requests = []
    for _ in range(2):
        env = make(episode_requests=10)
        env.reset()
        solo = env._solos["device_0"] if isinstance(env, SharedOffloadEnv) else env._solo
        requests.append(solo.arrival_s)
    assert requests[0] != requests[1]


def test_parallel_environment_repeats_with_its_seed(profile: Profile) -> None:
    env = environments.parallel_env(episode_requests=10)
    assert len(env.possible_agents) == 4
    rewards = []
    for seed in (1, 1, 2):
        env.reset(seed=seed)
        action = np.array([1, 1, 1, 1, 4, 0])
        rewards.append([env.step(dict.fromkeys(env.agents, action))[1] for _ in range(10)])
    assert rewards[0] == rewards[1] != rewards[2]
    assert env.agents == []


def test_masks_leave_what_can_be_done(profile: Profile) -> None:
    env = OffloadEnv(config(), profile)
    env.reset(seed=0)
    assert is_masking_supported(env)
    mask = get_action_masks(env)
    assert mask.all(), "at the begin there is time for everything"
    splits = len(env.actions.axes[0])
    env._solo.link_up = False
    assert env.action_masks()[:splits].tolist() == [False] * (splits - 1) + [True]
    env._solo.link_up = True
    reach_s = 0.01 + 0.005 + env._lookup.times[0][3]
    env._solo.observation = env._solo.observation._replace(time_left_s=reach_s + 1e-9)
    assert env.action_masks()[:splits].tolist() == [True] * 4 + [False] * 2 + [True]
    env._solo.observation = env._solo.observation._replace(time_left_s=reach_s - 1e-9)
    assert env.action_masks()[:splits].tolist() == [True] * 3 + [False] * 3 + [True]


def test_a_list_of_decisions_makes_the_actions_discrete(profile: Profile) -> None:
    decisions = [Decision(6), Decision(0), Decision(2, 0.25, 48, 4)]
    env = OffloadEnv(config(), profile, decisions)
    assert env.action_space == gymnasium.spaces.Discrete(3)
    env.reset(seed=0)
    for action, cut in enumerate((6, 0, 2)):
        assert env.step(action)[4]["cut"] == cut
    env._solo.link_up = False
    assert env.action_masks().tolist() == [True, False, False]


@pytest.mark.parametrize(
    "action",
    [np.array([7, 0, 0, 0, 0, 0]), np.array([0, 0]), "abc", np.array([-1] * 6), np.zeros((1, 6), int)],
)
def test_actions_outside_the_space_are_refused(profile: Profile, action: Any) -> None:
    env = OffloadEnv(config(), profile)
    env.reset(seed=0)
    with pytest.raises(UsageError, match="MultiDiscrete"):
        env.step(action)


def test_arguments_are_checked(profile: Profile) -> None:
    for device in (-1, 4):
        with pytest.raises(UsageError, match=f"device {device} is not one of the 4 of quickstart"):
            environments.make_offload(device=device)
    with pytest.raises(UsageError, match="did you mean 'deadline_s'"):
        environments.make_offload(deadline=0.2)
    with pytest.raises(GridError, match="keep"):
        OffloadEnv(config(keeps=(0.9,)), profile)
    with pytest.raises(UsageError, match="evaluation profile"):
        OffloadEnv(config(), Setup(load_scenario("quickstart")).evaluation)
    assert environments.make_offload(deadline_s=0.2).config.deadline_s == 0.2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scenari": "fading"}, "unknown argument 'scenari': did you mean 'scenario'"),
        ({"episode_requests": 0}, "episode_requests: .* greater than or equal to 1 .given: 0"),
        ({"start_spread_s": -1}, "start_spread_s: .* greater than or equal to 0"),
        ({"start_spread_s": float("inf")}, "start_spread_s: .* finite"),
        ({"scenario": load_scenario("quickstart"), "deadline_s": -1}, "deadline_s: .* greater than 0"),
        ({"coder": "ans"}, "measured with coder 'packed', not 'ans': .* --coder ans"),
        ({"decisions": [Decision(1, symbols=0.25)]}, "Decision.symbols 0.25"),
        ({"decisions": [Decision(1, bits=2, refine_bits=4)]}, "Decision.refine_bits 4"),
        ({"decisions": [Decision(1, merge=0.5)]}, "Decision.merge 0.5"),
        ({"decisions": [{"split": 1}]}, "decisions: a list of Decision, not of dict"),
        ({"keeps": 0.5}, "keeps: .* list"),
        ({"bits": []}, "bits: List should have at least 1 item"),
        ({"offload_slopes": []}, "offload_slopes: List should have at least 1 item"),
    ],
)
def test_what_is_wrong_with_an_argument_is_one_line(wrong: dict[str, Any], said: str) -> None:
    for make in (environments.make_offload, environments.parallel_env):
        with pytest.raises(UsageError, match=said) as caught:
            make(**wrong)
        assert "\n" not in str(caught.value)


def test_stable_baselines_makes_several_by_their_id() -> None:
    """It asks for pictures first."""
    env = make_vec_env("splitpoint/Offload-v0", 2, env_kwargs={"episode_requests": 3})
    assert env.reset().shape == (2, 10)
    with pytest.raises(TypeError, match="draw nothing"):
        gymnasium.make("splitpoint/RecursiveExit-v0", render_mode="human")


@pytest.mark.parametrize("name", ["splitpoint/Offload-v0", "splitpoint/RecursiveExit-v0"])
def test_a_step_after_the_last_asks_for_a_reset(name: str) -> None:
    env = gymnasium.make(name, episode_requests=1)
    env.reset(seed=0)
    assert env.step(0 * env.action_space.sample())[3]
    with pytest.raises(UsageError, match="reset this environment"):
        env.step(0 * env.action_space.sample())


def test_what_only_another_environment_takes_is_not_proposed_again() -> None:
    with pytest.raises(UsageError, match="unknown argument 'device': did you mean 'devices'"):
        environments.parallel_env(device=1)


def test_environments_of_nobody_and_steps_of_nobody_are_refused(profile: Profile) -> None:
    with pytest.raises(UsageError, match="at least one copy"):
        environments.make_offload_vector(0)
    with pytest.raises(UsageError, match="at least one link path"):
        environments.make_offload_vector(2, link_paths=0)
    env = SharedOffloadEnv(config(), profile, 2)
    with pytest.raises(UsageError, match="reset this environment before its first step"):
        env.step({})
    env.reset(seed=0)
    with pytest.raises(UsageError, match="there is none of device_1"):
        env.step({"device_0": env.action_space("device_0").sample()})


@pytest.mark.parametrize(
    "choice",
    [{"keeps": [0.5]}, {"exit_margins": [0.5]}, {"offload_slopes": [0.0]}, {"decisions": [Decision(1)]}],
)
def test_deciding_exit_by_exit_takes_no_lists_to_choose_from(choice: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(choice))}: RecursiveExit-v0"):
        environments.make_recursive_exit(**choice)


@pytest.mark.parametrize("make", [environments.make_offload, environments.make_recursive_exit])
def test_an_environment_walks_the_path_of_its_device(make: Any) -> None:
    env = make(device=2, episode_requests=4)
    env.reset(seed=5)
    setup = Setup(load_scenario("quickstart", {"seed": 5, "requests": 20}))
    arrivals = setup.arrivals()
    assert env._solo.arrival_s == arrivals[2][0]
    assert env._solo.sample == setup.inputs(len(env.profile), arrivals)[2][0]
    assert env._solo.link.device == 2
