"""The summary, from requests by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from splitpoint.policies.budgets import Budgets
from splitpoint.policies.rules import UtilityWeights
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.metrics import request_utility, summarise
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


WEIGHTS = UtilityWeights(0.2, 0.1, 0.4, 0.5, deadline_s=0.5, energy_ref_j=2.0, airtime_ref_s=0.1)
# The second device's first request was answered twice; of six that were issued two never were.
COLUMNS = {
    "device": np.array([0, 0, 1, 1, 1]),
    "request": np.array([0, 1, 0, 0, 2]),
    "correct": np.array([True, True, False, True, False]),
    "latency_s": np.array([0.1, 0.2, 0.3, 0.4, 1.0]),
    "energy_j": np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    "airtime_up_s": np.array([0.0, 0.01, 0.02, 0.03, 0.04]),
    "airtime_down_s": np.array([0.0, 0.01, 0.01, 0.01, 0.02]),
    "late": np.array([False, False, False, False, True]),
    "uplink_bytes": np.array([0, 100, 200, 300, 400]),
    "channel_uses": np.array([0, 0, 0, 50, 0]),
    "local": np.array([True, False, False, False, True]),
    "offloaded": np.array([False, True, True, True, True]),
    "degraded": np.array([False, False, False, True, True]),
    "policy_replaced": np.array([True, False, True, False, True]),
}


def test_utility_is_what_is_right_less_what_it_cost() -> None:
    latency, energy, airtime = 0.2 / 0.5 * COLUMNS["latency_s"], 0.1 / 2.0 * COLUMNS["energy_j"], np.zeros(5)
    airtime += 0.4 / 0.1 * np.array([0.0, 0.02, 0.03, 0.04, 0.06])
    expected = np.array([1.0, 1.0, 0.0, 1.0, 0.0]) - latency - energy - airtime - 0.5 * COLUMNS["late"]
    np.testing.assert_allclose(request_utility(COLUMNS, WEIGHTS), expected)


def test_each_figure_of_the_summary_is_that_of_its_column() -> None:
    found = summarise("p", "live", 6, COLUMNS, WEIGHTS)
    assert (found["policy"], found["engine"], found["requests"]) == ("p", "live", 6)
    assert (found["answered"], found["answered_twice"], found["lost"]) == (4, 1, 2)
    assert (found["degraded"], found["late"], found["policy_replaced"]) == (2, 1, 3)
    expected = {
        "accuracy": 0.6, "utility": request_utility(COLUMNS, WEIGHTS).mean(), "latency_p50_s": 0.3,
        "latency_p95_s": np.quantile(COLUMNS["latency_s"], 0.95),
        "latency_p99_s": np.quantile(COLUMNS["latency_s"], 0.99), "uplink_bytes_mean": 200.0,
        "channel_uses_mean": 10.0, "airtime_mean_s": 0.03, "device_energy_mean_j": 3.0, "local_fraction": 0.4,
        "offloaded_fraction": 0.8,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["utility_ci95"][0] < found["utility"] < found["utility_ci95"][1]


@pytest.mark.parametrize(("energy_j", "feasible"), [(4.0, True), (4.0 / 1.009, True), (4.0 / 1.011, False)])
def test_who_is_a_hundredth_over_a_budget_is_within_it(energy_j: float, feasible: bool) -> None:
    # The second device spends four joules a request, the mean over both is three.
    found = summarise("p", "live", 6, COLUMNS, WEIGHTS, Budgets(energy_j=energy_j, airtime_s=1.0))
    assert found["feasible"] == feasible
    assert found["budgets"]["energy_j"]["mean"] == pytest.approx(3.0)
    assert found["budgets"]["energy_j"]["violation"] == pytest.approx(4.0 / energy_j - 1.0)
    assert found["budgets"]["airtime_s"]["violation"] == 0.0


def test_where_nothing_was_answered_all_is_lost_and_there_are_no_means() -> None:
    nothing = {name: column[:0] for name, column in COLUMNS.items()}
    found = summarise("p", "live", 3, nothing, WEIGHTS, Budgets(energy_j=1.0))
    assert (found["answered"], found["lost"], found["feasible"]) == (0, 3, True)
    assert np.isnan([found["accuracy"], found["utility"], found["latency_p95_s"]]).all()
