"""Recovery after changes, budgets in the summary, and prices by bisection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from splitpoint.policies.budgets import Budgets
from splitpoint.sim.metrics import budget_lines, device_costs
from splitpoint.sim.report_headline import by_utility, headline
from splitpoint.sim.transients import transients
from splitpoint.sim.tuning import least_prices

BUDGETS = Budgets(airtime_s=0.01)


def _columns(arrivals: np.ndarray, airtime_s: np.ndarray, device: np.ndarray | None = None) -> dict[str, Any]:
    return {
        "arrival_s": arrivals,
        "device": np.zeros(len(arrivals), int) if device is None else device,
        "latency_s": np.full(len(arrivals), 0.1),
        "energy_j": np.full(len(arrivals), 0.1),
        "airtime_up_s": airtime_s,
        "airtime_down_s": np.zeros(len(arrivals)),
    }


def test_recovery_is_timed_from_the_change_to_the_level_that_follows() -> None:
    arrivals = np.arange(0.0, 100.0, 0.1)
    values = np.where((arrivals >= 40.0) & (arrivals < 52.0), 0.2, 0.8)
    airtime = np.where((arrivals >= 40.0) & (arrivals < 45.0), 0.04, 0.005)
    (found,) = transients(_columns(arrivals, airtime), values, [40.0], BUDGETS)
    assert found["level"] == pytest.approx(0.8)
    # A window of 25 requests may hold two of before; its middle is a second after its begin.
    assert found["recovery_s"] == pytest.approx(13.0, abs=0.5)
    assert found["loss"] == pytest.approx(-0.6)
    assert found["over"]["airtime_s"] == pytest.approx(0.5 * 3.0 + 0.5 * -0.5, abs=0.05)


def test_changes_that_are_too_near_to_each_other_are_left_out() -> None:
    arrivals = np.arange(0.0, 30.0, 0.1)
    found = transients(_columns(arrivals, 0.0 * arrivals), np.ones(300), [10.0, 11.0], BUDGETS)
    assert [change["at_s"] for change in found] == [11.0]
    assert found[0]["recovery_s"] == pytest.approx(1.2, abs=0.11)


def test_every_device_has_the_budget_to_itself() -> None:
    columns = _columns(np.arange(4.0), np.array([0.002, 0.004, 0.012, 0.012]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(device_costs(columns, BUDGETS), [[0.3, 1.2]])
    line = budget_lines(columns, BUDGETS)["airtime_s"]
    assert line["mean"] == pytest.approx(0.0075)
    assert line["violation"] == pytest.approx(0.2)


def test_a_policy_over_budget_ranks_behind_all_that_are_not() -> None:
    line = {"airtime_s": {"budget": 0.01, "mean": 0.013, "violation": 0.3}}
    kept = {"airtime_s": {"budget": 0.01, "mean": 0.009, "violation": 0.0}}
    common = {"accuracy": 1.0, "latency_p95_s": 0.1, "uplink_bytes_mean": 10.0, "lost": 0}
    spender = {"policy": "spender", "utility": 0.9, "feasible": False, "budgets": line, **common}
    keeper = {"policy": "keeper", "utility": 0.5, "feasible": True, "budgets": kept, **common}
    assert [s["policy"] for s in by_utility([spender, keeper])] == ["keeper", "spender"]
    said = " ".join(headline([spender, keeper]))
    assert "“keeper” has the highest utility of those within their budgets" in said
    assert "“spender” is over budget" in said
    assert "airtime by 30 %" in said


def test_prices_are_the_least_that_keep_each_devices_budget() -> None:
    needed = np.array([0.0, 0.05, 1.7])

    def spent(prices: np.ndarray) -> np.ndarray:
        return np.where(needed > 0.0, 1.0 + 0.5 * (needed - prices[0]), 0.4)[None]

    found = least_prices(spent, (1, 3))[0]
    assert found[0] == 0.0
    np.testing.assert_allclose(found[1:], needed[1:], rtol=0.5, atol=0.02)
    assert (found[1:] >= needed[1:]).all()
