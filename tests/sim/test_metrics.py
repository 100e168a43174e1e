"""Intervals of the summary."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.metrics import _share_interval, summarise
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


def test_the_share_lies_in_its_interval_and_that_within_0_and_1_whatever_is_rounded() -> None:
    for count in range(1, 400):
        for right in {0, 1, count - 1, count}:
            answers = np.arange(count) < right
            low, high = _share_interval(answers)
            assert 0.0 <= low <= answers.mean() <= high <= 1.0
