"""What the tests of the environments share: one profile, loaded once."""

from __future__ import annotations

from typing import Any

import pytest

from splitpoint.models.profile import Profile
from splitpoint.policies.environments.config import EnvironmentConfig
from splitpoint.sim.environments import environment_config
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup


@pytest.fixture(scope="session")
def profile() -> Profile:
    return Setup(load_scenario("quickstart")).calibration


def config(**options: Any) -> EnvironmentConfig:
    """Quickstart's surroundings, with short episodes."""
    return environment_config(load_scenario("quickstart"), **{"episode_requests": 20, **options})
