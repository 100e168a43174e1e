"""Environments by scenario, and their ids. Importing this module registers them with Gymnasium.

    import splitpoint.sim.environments
    gymnasium.make("splitpoint/Offload-v0", scenario="quickstart")

or, without the import, `gymnasium.make("splitpoint.sim.environments:splitpoint/Offload-v0")`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
from pydantic import ValidationError

from ..config_errors import first_problem
from ..errors import UsageError, did_you_mean
from ..models.profile import Profile
from ..policies.decision import NEVER
from ..policies.environments.config import EnvironmentConfig
from ..policies.environments.offload import OffloadEnv
from ..policies.environments.recursive_exit import RecursiveExitEnv
from ..policies.environments.shared import SharedOffloadEnv
from ..policies.environments.vector import OffloadVectorEnv
from ..policies.service_time import Pace
from .scenario import Scenario, load_scenario
from .setup import Setup

__all__ = [
    "environment_config",
    "make_offload",
    "make_offload_vector",
    "make_recursive_exit",
    "parallel_env",
    "register",
]


def environment_config(scenario: Scenario, device: int = 0, **options: Any) -> EnvironmentConfig:
    """The surroundings of one device of a scenario; `options` are further fields of EnvironmentConfig.

    UsageError for a device that the scenario has not, and for options that are none.
    """
    groups, server = scenario.device_groups(), scenario.server
    if not 0 <= device < len(groups):
        raise UsageError(
            f"device {device} is not one of the {len(groups)} of {scenario.name}, counted from 0"
        )
    group = groups[device]
    channel = scenario.channel_config()
    try:
        return EnvironmentConfig(
            device=device,
            macs_per_s=group.macs_per_s,
            overhead_s=group.overhead_s,
            slack_s=group.slack_s,
            battery_j=float("inf") if group.battery_j is None else group.battery_j,
            power=group.power.power(),
            arrivals=group.arrivals,
            link=channel.link_of(device),
            uplink=channel.uplink,
            downlink=channel.downlink,
            report=channel.report,
            coherence_s=scenario.coherence_s,
            probe_s=scenario.probe_s,
            server=Pace(server.base_s, server.macs_per_s),
            max_batch=server.max_batch,
            weights=scenario.weights(),
            **options,
        )
    except ValidationError as error:
        raise UsageError(first_problem(error, EnvironmentConfig.model_json_schema())) from None


def _loaded(scenario: str | Path | Scenario, changes: dict[str, Any]) -> tuple[Scenario, dict[str, Any]]:
    """The scenario with its top-level fields changed, and those keywords that are fields of EnvironmentConfig."""
    if changes.pop("render_mode", None) is not None:
        # Not a UsageError: who asks for pictures unasked, as Stable-Baselines3 does, goes on without at a TypeError.
        raise TypeError("render_mode: these environments draw nothing")
    options = {name: value for name, value in changes.items() if name in _OPTIONS}
    fields = {name: value for name, value in changes.items() if name not in _OPTIONS}
    for name in fields:
        if name not in Scenario.model_fields:
            # What another environment takes is unknown to this one all the same.
            known = {*Scenario.model_fields, *_OPTIONS, "scenario", "device", "decisions"} - {name}
            raise UsageError(f"unknown argument '{name}': {did_you_mean(name, known)}")
    if not isinstance(scenario, Scenario):
        return load_scenario(scenario, fields), options
    try:
        return Scenario.model_validate(scenario.model_dump() | fields), options
    except ValidationError as error:
        raise UsageError(first_problem(error, Scenario.model_json_schema())) from None


def _made(
    scenario: str | Path | Scenario, device: int, changes: dict[str, Any]
) -> tuple[EnvironmentConfig, Profile]:
    loaded, options = _loaded(scenario, changes)
    return environment_config(loaded, device, **options), Setup(loaded).as_sent("calibration")


_OPTIONS = frozenset(
    ("bits", "dims", "episode_requests", "exit_margins", "keeps", "offload_slopes", "start_spread_s")
)
"""Fields of EnvironmentConfig that a scenario does not say."""


def make_offload(
    scenario: str | Path | Scenario = "quickstart", *, device: int = 0, decisions: Any = None, **changes: Any
) -> OffloadEnv:
    """`splitpoint/Offload-v0`. changes: top-level fields of the scenario, or of an episode and its actions."""
    config, profile = _made(scenario, device, changes)
    return OffloadEnv(config, profile, decisions)


def make_offload_vector(
    num_envs: int = 1,
    scenario: str | Path | Scenario = "quickstart",
    *,
    device: int = 0,
    decisions: Any = None,
    link_paths: int = 32,
    **changes: Any,
) -> OffloadVectorEnv:
    """`splitpoint/Offload-v0` for `gymnasium.make_vec(..., vectorization_mode="vector_entry_point")`."""
    config, profile = _made(scenario, device, changes)
    return OffloadVectorEnv(config, profile, num_envs, decisions, link_paths)


def make_recursive_exit(
    scenario: str | Path | Scenario = "quickstart",
    *,
    device: int = 0,
    keep: float = 0.25,
    dims: int = 0,
    bits: int = 4,
    server_exit_margin: float = NEVER,
    **changes: Any,
) -> RecursiveExitEnv:
    """`splitpoint/RecursiveExit-v0`; keep, dims and bits are of whatever is sent."""
    for name in ("decisions", "exit_margins", "keeps", "offload_slopes"):
        if name in changes:
            raise UsageError(f"{name}: RecursiveExit-v0 decides exit by exit and chooses from no such list")
    config, profile = _made(scenario, device, changes)
    return RecursiveExitEnv(
        config, profile, keep=keep, dims=dims, bits=bits, server_exit_margin=server_exit_margin
    )


def parallel_env(
    scenario: str | Path | Scenario = "quickstart",
    *,
    devices: int | None = None,
    decisions: Any = None,
    **changes: Any,
) -> SharedOffloadEnv:
    """The PettingZoo environment; as many devices as the scenario has, all like its first one."""
    loaded, options = _loaded(scenario, changes)
    config = environment_config(loaded, **options)
    count = len(loaded.device_groups()) if devices is None else devices
    return SharedOffloadEnv(config, Setup(loaded).as_sent("calibration"), count, decisions)


def register() -> None:
    """Make the ids known to Gymnasium; doing it twice is harmless."""
    for name, maker, vector in (
        ("Offload-v0", "make_offload", "make_offload_vector"),
        ("RecursiveExit-v0", "make_recursive_exit", None),
    ):
        if f"splitpoint/{name}" not in gymnasium.registry:
            gymnasium.register(
                f"splitpoint/{name}",
                entry_point=f"{__name__}:{maker}",
                vector_entry_point=vector and f"{__name__}:{vector}",
            )


register()
