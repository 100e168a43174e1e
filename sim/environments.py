"""Environments by scenario, and their ids. Importing this module registers them with Gymnasium.

    import splitpoint.sim.environments
    gymnasium.make("splitpoint/Offload-v0", scenario="quickstart")

or, without the import, `gymnasium.make("splitpoint.sim.environments:splitpoint/Offload-v0")`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium

from ..errors import UsageError, did_you_mean
from ..models.profile import Profile
from ..policies.environments.config import EnvironmentConfig
from ..policies.environments.offload import OffloadEnv
from ..policies.service_time import Pace
from .scenario import Scenario, load_scenario
from .setup import Setup

__all__ = ["environment_config", "make_offload", "register"]


def environment_config(scenario: Scenario, device: int = 0, **options: Any) -> EnvironmentConfig:
    """The surroundings of one device of a scenario; `options` are further fields of EnvironmentConfig."""
    group, server = scenario.device_groups()[device], scenario.server
    channel = scenario.channel_config()
    return EnvironmentConfig(
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


def _made(
    scenario: str | Path | Scenario, device: int, changes: dict[str, Any]
) -> tuple[EnvironmentConfig, Profile]:
    """Config and calibration Profile; each keyword is a top-level field of the scenario or one of the config."""
    options = {name: changes.pop(name) for name in _OPTIONS & changes.keys()}
    for name in changes:
        if name not in Scenario.model_fields:
            raise UsageError(
                f"unknown argument '{name}': {did_you_mean(name, {*Scenario.model_fields, *_OPTIONS})}"
            )
    if isinstance(scenario, Scenario):
        scenario = Scenario.model_validate(scenario.model_dump() | changes)
    else:
        scenario = load_scenario(scenario, changes)
    return environment_config(scenario, device, **options), Setup(scenario).calibration


_OPTIONS = {
    name
    for name in EnvironmentConfig.model_fields
    if name
    in ("episode_requests", "start_spread_s", "keeps", "dims", "bits", "exit_margins", "offload_slopes")
}


def make_offload(
    scenario: str | Path | Scenario = "quickstart", *, device: int = 0, decisions: Any = None, **changes: Any
) -> OffloadEnv:
    """`splitpoint/Offload-v0`. changes: top-level fields of the scenario, or of an episode and its actions."""
    config, profile = _made(scenario, device, changes)
    return OffloadEnv(config, profile, decisions)


def register() -> None:
    """Make the ids known to Gymnasium; doing it twice is harmless."""
    for name, maker in (("Offload-v0", "make_offload"),):
        if f"splitpoint/{name}" not in gymnasium.registry:
            gymnasium.register(f"splitpoint/{name}", entry_point=f"{__name__}:{maker}")


register()
