"""Intervals of the summary."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.metrics import summarise
from splitpoint.sim.setup import Setup

from .conftest import changed


@pytest.mark.parametrize("right", [0, 1, 37, 40])
def test_the_accuracys_interval_is_wilsons(right: int) -> None:
    scenario = changed(requests=40)
    columns = VirtualEngine(Setup(scenario), "profile").run(scenario.policy("local"))
    columns["correct"] = np.arange(40) < right
    found = summarise("local", "profile", 40, columns, scenario.weights())["accuracy_ci95"]
    wilson = binomtest(right, 40).proportion_ci(0.95, "wilson")
    assert found == pytest.approx([wilson.low, wilson.high], abs=1e-4)
