"""Small scenarios that the tests of the engines share."""

from __future__ import annotations

from typing import Any

import pytest

from splitpoint.sim.scenario import Scenario, load_scenario


def changed(name: str = "quickstart", **changes: Any) -> Scenario:
    """A built-in scenario with top-level fields replaced."""
    return load_scenario(name, changes)


@pytest.fixture(scope="session")
def quickstart() -> Scenario:
    return changed()
