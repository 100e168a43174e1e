"""One given path, walked by the environments and by the profile engine: equal step by step."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitpoint.models.profile import Profile
from splitpoint.policies.decision import Decision
from splitpoint.policies.environments.config import EnvironmentConfig
from splitpoint.policies.environments.offload import OffloadEnv
from splitpoint.policies.environments.path import draw_path
from splitpoint.policies.environments.recursive_exit import CONTINUE, EXIT, OFFLOAD, RecursiveExitEnv
from splitpoint.policies.environments.shared import SharedOffloadEnv
from splitpoint.policies.environments.shared_server import Job, SharedServer
from splitpoint.policies.environments.vector import OffloadVectorEnv
from splitpoint.policies.service_time import Pace
from splitpoint.seeding import generator
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.environments import environment_config
from splitpoint.sim.metrics import request_utility
from splitpoint.sim.policy_config import ReplayPolicy
from splitpoint.sim.records import write_requests
from splitpoint.sim.scenario import Scenario, load_scenario
from splitpoint.sim.setup import Setup

from ...small_card import SMALL

TRACES = Path(__file__).parents[3] / "scenarios" / "traces"

CHANNELS: dict[str, dict[str, Any]] = {
    "rician": {},
    "loss": {"link": {"kind": "rayleigh", "doppler_hz": 2.0, "loss": 0.2, "rate_scale": 0.05}},
    "no round trip": {"link": {"kind": "awgn", "rate_scale": 0.01, "round_trip_s": 0.0}},
    "outages": {
        "link": {"kind": "awgn", "rate_scale": 0.1, "outages": {"mean_up_s": 1.0, "mean_down_s": 0.7}}
    },
    "an outage for ever": {
        "link": {"kind": "awgn", "rate_scale": 0.1, "outages": {"windows": [[2.0, 2.5], [7.0, 1e18]]}}
    },
    "bad times": {
        "link": {"kind": "gilbert_elliott", "mean_bad_s": 0.5, "bad_loss": 0.8, "rate_scale": 0.05},
        "uplink": {"kind": "round_robin"},
    },
    "unrounded reports": {"report": {"step_db": 0.0, "sigma_db": 2.0}},
    "a modem that measures": {
        "link": {"kind": "rayleigh", "rate_scale": 0.2, "outages": {"mean_up_s": 1.0, "mean_down_s": 0.7}},
        "report": {"every_s": 0.13},
    },
    "a trace of capacity": {
        "uplink": {"kind": "mahimahi", "path": str(TRACES / "drive.up"), "rate_scale": 0.03},
        "report": {"every_s": 0.1},  # where milliseconds of the trace begin
    },
}


def one_device(channel: str, count: int) -> Scenario:
    """Quickstart with one device that often has a queue, and a server too slow for some requests."""
    base = load_scenario("quickstart").model_dump(mode="json")
    device = base["devices"][0] | {"count": 1, "arrivals": {"kind": "poisson", "rate_hz": 5.0}}
    changes = {
        "devices": [device],
        "requests": count,
        "channel": base["channel"] | CHANNELS.get(channel, {}),
        "server": base["server"] | {"base_s": 0.03},
    }
    return Scenario.model_validate(base | changes)


def with_gates(profile: Profile) -> Profile:
    """The profile as if gates dropped patches on the device: heads that depend on the keep, tokens on the sample."""
    draws = generator(0, "gates")
    shape = (len(profile.keeps), *profile.head_margin.shape)
    return replace(
        profile,
        card=profile.card.model_copy(update={"gates": True}),
        gated_prediction=draws.integers(0, 10, shape).astype(np.uint16),
        gated_margin=(0.99 + 0.01 * draws.random(shape)).astype(np.float32),
        tokens=np.maximum(1, profile.tokens - draws.integers(0, 3, profile.tokens.shape)).astype(np.int32),
    )


def engine_run(
    scenario: Scenario, profile: Profile, decisions: list[Decision], folder: Path
) -> dict[str, np.ndarray]:
    """The requests of the profile engine under given Decisions, with the answers that the environments look up."""
    names = [field.name for field in fields(Decision)]
    table = {name: np.array([getattr(d, name) for d in decisions]) for name in names}
    path = folder / "requests.parquet"
    write_requests(path, {"given": {"device": np.zeros(len(decisions), int), **table}}, {})
    setup = Setup(scenario)
    setup.card = profile.card
    setup.__dict__["evaluation"] = replace(profile, split_name="evaluation")
    return VirtualEngine(setup, "profile").run(ReplayPolicy(path=path))


@pytest.mark.parametrize("channel", [*CHANNELS, "gates"])
def test_single_environment_and_profile_engine_are_equal_step_by_step(
    profile: Profile, channel: str, tmp_path: Path
) -> None:
    steps, seed = 80, 7
    profile = with_gates(profile) if channel == "gates" else profile
    scenario = one_device(channel, steps + 1).model_copy(update={"seed": seed})
    config: EnvironmentConfig = environment_config(scenario, episode_requests=steps)
    env = OffloadEnv(config, profile)
    env.action_space.seed(3)
    actions = [env.action_space.sample() for _ in range(steps)]
    decisions = [env.actions.decisions[env.actions.flat(action)] for action in actions]
    # The last request is only there to be observed.
    columns = engine_run(scenario, profile, [*decisions, decisions[0]], tmp_path)
    utility = request_utility(columns, scenario.weights())
    env.reset(seed=seed)
    for step, action in enumerate(actions):
        belief = env.observation
        _, reward, terminated, truncated, info = env.step(action)
        assert not terminated
        assert truncated == (step == steps - 1)
        assert reward == pytest.approx(utility[step], abs=1e-9), step
        for name in ("cut", "exit", "offloaded", "degraded", "late", "correct", "margin"):
            assert info[name] == columns[name][step], (name, step)
        assert info["nbytes"] == columns["uplink_bytes"][step]
        for name in ("latency_s", "energy_j", "airtime_up_s", "airtime_down_s"):
            assert info[name] == pytest.approx(columns[name][step], abs=1e-9), (name, step)
        np.testing.assert_allclose(belief.snr_db, columns["snr_estimate_db"][step], atol=1e-9)
        np.testing.assert_allclose(belief.rate_bps, columns["rate_estimate_bps"][step], rtol=1e-9)
    assert 0.1 < columns["offloaded"][:steps].mean() < 0.9
    assert columns["degraded"].any()


@pytest.mark.parametrize("channel", [*CHANNELS, "gates"])
def test_vector_environment_and_single_environments_are_equal_step_by_step(
    profile: Profile, channel: str
) -> None:
    steps, copies = 40, 3
    profile = with_gates(profile) if channel == "gates" else profile
    scenario = one_device(channel, steps)
    config = environment_config(scenario, episode_requests=steps)
    singles = [OffloadEnv(config, profile) for _ in range(copies)]
    vector = OffloadVectorEnv(config, profile, copies)
    vector.action_space.seed(5)
    paths = [draw_path(config, seed, 0, len(profile)) for seed in range(copies)]
    observations, infos = vector.reset(options={"paths": paths})
    for copy, (env, path) in enumerate(zip(singles, paths, strict=True)):
        observation, info = env.reset(options={"path": path})
        np.testing.assert_allclose(observation, observations[copy], atol=1e-6)
        assert (info["action_mask"] == infos["action_mask"][copy]).all()
    for step in range(steps):
        actions = vector.action_space.sample()
        observations, rewards, _, truncated, infos = vector.step(actions)
        ended = step == steps - 1
        assert (truncated == ended).all()
        observations = infos["final_obs"] if ended else observations
        for copy, env in enumerate(singles):
            observation, reward, _, _, info = env.step(actions[copy])
            np.testing.assert_allclose(observation, observations[copy], atol=1e-6)
            assert reward == pytest.approx(rewards[copy], abs=1e-9)
            parts = {name: float(part[copy]) for name, part in infos["reward_parts"].items()}
            assert info["reward_parts"] == pytest.approx(parts, abs=1e-9)
            for name in set(info) - {"action_mask", "reward_parts"}:
                assert info[name] == pytest.approx(infos[name][copy], abs=1e-9), (name, step)
            if not ended:
                assert (info["action_mask"] == infos["action_mask"][copy]).all()


@pytest.mark.parametrize("channel", ["outages", "a modem that measures"])
def test_one_device_in_the_parallel_environment_is_the_single_environment(
    profile: Profile, channel: str
) -> None:
    steps = 60
    scenario = one_device(channel, steps)
    config = environment_config(scenario, episode_requests=steps)
    single, shared = OffloadEnv(config, profile), SharedOffloadEnv(config, profile, devices=1)
    path = draw_path(config, 11, 0, len(profile))
    single.reset(options={"path": path})
    shared.reset(options={"paths": [path]})
    single.action_space.seed(2)
    for _ in range(steps):
        action = single.action_space.sample()
        observation, reward, _, _, info = single.step(action)
        observations, rewards, _, truncated, infos = shared.step({"device_0": action})
        assert rewards["device_0"] == pytest.approx(reward, abs=1e-9)
        np.testing.assert_allclose(observations["device_0"], observation, atol=1e-6)
        for name in set(info) - {"action_mask", "reward_parts"}:
            assert infos["device_0"][name] == pytest.approx(info[name], abs=1e-9), name
    assert truncated["device_0"]


def test_what_comes_too_late_keeps_a_shared_server_from_nothing() -> None:
    server = SharedServer(SMALL, Pace(base_s=0.1), max_batch=16)
    late, timely = (Job(at_s, 2, 5, 2, answer_by_s) for at_s, answer_by_s in ((20.0, 1.0), (2.0, 5.0)))
    for job in (late, timely):
        server.serve([job])
    assert (late.replied_s, timely.replied_s) == (math.inf, pytest.approx(2.1))


def test_devices_of_the_parallel_environment_wait_for_each_other(profile: Profile) -> None:
    scenario = one_device("rician", 10)
    config = environment_config(scenario, episode_requests=10)
    env = SharedOffloadEnv(config, profile, devices=2)
    path = draw_path(config, 5, 0, len(profile))
    env.reset(options={"paths": [path, path]})
    send = np.array([2, 2, 2, 2, 4, 0])
    _, _, _, _, infos = env.step(dict.fromkeys(env.agents, send))
    first, second = (infos[agent] for agent in env.possible_agents)
    assert not second["degraded"]
    assert second["latency_s"] >= first["latency_s"] + 0.9 * second["airtime_up_s"] - second["airtime_down_s"]


@pytest.mark.parametrize("channel", ["outages", "a modem that measures"])
def test_exit_by_exit_is_the_same_as_one_decision_with_the_agents_rules(
    profile: Profile, channel: str
) -> None:
    steps = 60
    scenario = one_device(channel, steps)
    config = environment_config(scenario, episode_requests=steps)
    decision = Decision(4, 0.25, 48, 4, exit_margin=0.998, offload_slope=0.0005)
    whole = OffloadEnv(config, profile, [decision])
    steps_env = RecursiveExitEnv(config, profile, keep=0.25, dims=48, bits=4, server_exit_margin=0.998)
    path = draw_path(config, 4, 0, len(profile))
    whole.reset(options={"path": path})
    steps_env.reset(options={"path": path})
    taken = set()
    for _ in range(steps):
        _, expected, _, _, whole_info = whole.step(0)
        while True:
            margins = steps_env._margins
            slow = len(margins) > 1 and margins[-1] - margins[-2] < 0.0005
            action = EXIT if margins[-1] >= 0.998 else OFFLOAD if slow or len(margins) > 1 else CONTINUE
            taken.add(action)
            _, reward, _, truncated, info = steps_env.step(action)
            if "reward" in info:
                break
            assert reward == 0.0
        assert reward == pytest.approx(expected, abs=1e-9)
        for name in ("cut", "exit", "nbytes", "degraded", "correct", "margin"):
            assert info[name] == whole_info[name], name
        assert info["latency_s"] == pytest.approx(whole_info["latency_s"], abs=1e-9)
    assert truncated
    assert taken == {EXIT, CONTINUE, OFFLOAD}
