"""From the requests of a run to `summary.json`: one object a policy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..policies.budgets import FEASIBLE_WITHIN, Budgets
from ..policies.rules import UtilityWeights, utility
from .intervals import interval_of_share, mean_and_half
from .records import Table

__all__ = ["budget_lines", "device_costs", "request_costs", "request_utility", "summarise"]


def request_utility(columns: Table, weights: UtilityWeights) -> np.ndarray:
    """Utility of every request, float64 (requests,)."""
    airtime_s = columns["airtime_up_s"] + columns["airtime_down_s"]
    return utility(
        columns["correct"].astype(float),
        columns["latency_s"],
        columns["energy_j"],
        airtime_s,
        columns["late"].astype(float),
        weights,
    )


def request_costs(columns: Table, budgets: Budgets) -> np.ndarray:
    """What every request cost of each budget that is set, float64 (budgets, requests), in the budgets' units."""
    costs = {
        "latency_s": columns["latency_s"],
        "energy_j": columns["energy_j"],
        "airtime_s": columns["airtime_up_s"] + columns["airtime_down_s"],
    }
    shape = len(budgets.active), len(columns["device"])
    return np.array([costs[name] for name in budgets.active], float).reshape(shape)


def device_costs(columns: Table, budgets: Budgets) -> np.ndarray:
    """Mean cost per request of each device over its budgets, float64 (budgets, devices): above 1 is too much."""
    costs = request_costs(columns, budgets) / budgets.limits[:, None]
    device = columns["device"]
    counts = np.maximum(np.bincount(device), 1)
    means = [np.bincount(device, cost, len(counts)) / counts for cost in costs]
    return np.array(means).reshape(len(costs), len(counts))


def budget_lines(columns: Table, budgets: Budgets) -> dict[str, dict[str, float]]:
    """Of each budget: the limit, the mean cost, and the violation.

    Every device has the budget to itself: the violation is by what part the mean of the device that spends most is
    above the limit, at least 0.
    """
    if not len(columns["device"]):
        return {name: {"budget": float(getattr(budgets, name)), "mean": float("nan"), "violation": 0.0}
                for name in budgets.active}  # fmt: skip
    means = request_costs(columns, budgets).mean(axis=1).tolist()
    worst = device_costs(columns, budgets).max(axis=1, initial=0.0).tolist()
    return {
        name: {"budget": limit, "mean": mean, "violation": max(0.0, spent - 1.0)}
        for name, limit, mean, spent in zip(
            budgets.active, budgets.limits.tolist(), means, worst, strict=True
        )
    }


def summarise(
    policy: str,
    engine: str,
    issued: int,
    columns: Table,
    weights: UtilityWeights,
    budgets: Budgets = Budgets(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """One policy's line of the summary.

    issued: requests that arrived. Intervals are 95 % intervals of the mean over requests, taken as independent.
    Latencies of lost requests do not exist; `lost` says how many there are. `feasible`: within all budgets.
    """
    spent = budget_lines(columns, budgets)
    answered = len(columns["device"])
    pairs = np.stack([columns["device"], columns["request"]], axis=1)
    distinct = len(np.unique(pairs, axis=0))
    mean, half = mean_and_half(request_utility(columns, weights))
    latency = columns["latency_s"]
    p50, p95, p99 = (float(np.quantile(latency, q)) if answered else float("nan") for q in (0.5, 0.95, 0.99))
    return {
        "policy": policy,
        "engine": engine,
        "requests": issued,
        "answered": distinct,
        "answered_twice": answered - distinct,
        "lost": issued - distinct,
        "accuracy": _mean(columns["correct"]),
        "accuracy_ci95": list(interval_of_share(columns["correct"])),
        "utility": mean,
        "utility_ci95": [mean - half, mean + half],
        "latency_p50_s": p50,
        "latency_p95_s": p95,
        "latency_p99_s": p99,
        "uplink_bytes_mean": _mean(columns["uplink_bytes"]),
        "channel_uses_mean": _mean(columns["channel_uses"]),
        "airtime_mean_s": _mean(columns["airtime_up_s"] + columns["airtime_down_s"]),
        "device_energy_mean_j": _mean(columns["energy_j"]),
        "local_fraction": _mean(columns["local"]),
        "offloaded_fraction": _mean(columns["offloaded"]),
        "degraded": int(columns["degraded"].sum()),
        "late": int(columns["late"].sum()),
        "policy_replaced": int(columns["policy_replaced"].sum()),
        "budgets": spent,
        "feasible": all(line["violation"] <= FEASIBLE_WITHIN for line in spent.values()),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
