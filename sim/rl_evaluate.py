"""Policies compared on paired sample paths: all meet the same arrivals, inputs and channel, seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError
from .engines import VirtualEngine
from .intervals import mean_and_half
from .metrics import request_utility, summarise
from .policy_config import OraclePolicy, PolicyConfig, RandomPolicy
from .scenario import Scenario
from .setup import Setup
from .transients import transients

__all__ = ["Evaluation", "evaluate_policies"]

_MEANS = (
    "utility", "accuracy", "latency_p50_s", "latency_p95_s", "uplink_bytes_mean", "airtime_mean_s",
    "device_energy_mean_j", "local_fraction",
)  # fmt: skip


class Evaluation(NamedTuple):
    """runs: summaries, runs[policy][seed], with `changes` in them; rows: one line a policy, the best first."""

    runs: dict[str, list[dict[str, Any]]]
    rows: list[dict[str, Any]]


def evaluate_policies(
    scenario: Scenario,
    policies: Sequence[PolicyConfig],
    seeds: Sequence[int],
    progress: Callable[[], None] | None = None,
    known: Mapping[str, list[dict[str, Any]]] | None = None,
) -> Evaluation:
    """Run the policies on the evaluation profile under every seed, with random and oracle beside them for the share.

    known: summaries of policies that have been run already, under the same scenario and seeds.
    Raises UsageError for fewer than two seeds, for two policies of one name, and where "random" or "oracle", between
    which the share is measured, are the names of others.
    """
    if len(seeds) < 2:
        raise UsageError("an interval needs at least two seeds")
    chosen = _chosen(policies)
    # Tuned once, by calibration data and the scenario's own seed: nothing of it may follow the seeds of evaluation.
    first = Setup(scenario)
    runs: dict[str, list[dict[str, Any]]] = {
        name: list(summaries) for name, summaries in (known or {}).items()
    }
    tuned = {name: first.tuned(policy) for name, policy in chosen.items() if name not in runs}
    runs |= {name: [] for name in tuned}
    for seed in seeds:
        setup = Setup(scenario.model_copy(update={"seed": seed}))
        engine = VirtualEngine(setup, "profile", progress)
        weights, budgets = scenario.weights(), scenario.budgets.budgets()
        for name, policy in tuned.items():
            columns = engine.run(policy)
            summary = summarise(name, "profile", scenario.requests, columns, weights, budgets)
            values = request_utility(columns, weights)
            runs[name].append(
                summary | {"changes": transients(columns, values, scenario.changes_s(), budgets)}
            )
    clairvoyant = {name for name, policy in chosen.items() if isinstance(policy, OraclePolicy)}
    return Evaluation(runs, _rows(runs, clairvoyant))


def _chosen(policies: Sequence[PolicyConfig]) -> dict[str, PolicyConfig]:
    """By name, with the two ends of the share."""
    chosen: dict[str, PolicyConfig] = {}
    for policy in policies:
        if policy.name in chosen:
            raise UsageError(f"two policies are named '{policy.name}'")
        chosen[policy.name] = policy
    zero, one = chosen.setdefault("random", RandomPolicy()), chosen.setdefault("oracle", OraclePolicy())
    if not isinstance(zero, RandomPolicy):
        raise UsageError(
            f"the share counts from the policy 'random', which is of kind {zero.kind} here: rename it"
        )
    if not isinstance(one, OraclePolicy) or one.labels:
        what = "knows the labels" if isinstance(one, OraclePolicy) else f"is of kind {one.kind}"
        raise UsageError(f"the share counts to the policy 'oracle', which {what} here: rename it")
    return chosen


def _rows(runs: dict[str, list[dict[str, Any]]], clairvoyant: set[str]) -> list[dict[str, Any]]:
    utility = {name: np.array([s["utility"] for s in summaries]) for name, summaries in runs.items()}
    span = utility["oracle"] - utility["random"]
    rows = []
    for name, summaries in runs.items():
        row: dict[str, Any] = {"policy": name}
        for figure in _MEANS:
            row[figure], row[f"{figure}_half"] = mean_and_half([s[figure] for s in summaries])
        row["regret"], row["regret_half"] = mean_and_half(utility["oracle"] - utility[name])
        # Of the means: single spans can be small.
        row["share"] = float((utility[name] - utility["random"]).mean() / span.mean())
        row["violation"] = {
            budget: float(np.mean([s["budgets"][budget]["violation"] for s in summaries]))
            for budget in summaries[0]["budgets"]
        }
        row["worst_violation"] = max(
            (line["violation"] for s in summaries for line in s["budgets"].values()), default=0.0
        )
        row["feasible"] = all(s["feasible"] for s in summaries)
        row["clairvoyant"] = name in clairvoyant
        row["late"], row["degraded"], row["policy_replaced"] = (
            int(sum(s[figure] for s in summaries)) for figure in ("late", "degraded", "policy_replaced")
        )
        row |= _transient(summaries)
        rows.append(row)
    rows.sort(key=lambda row: (not row["feasible"], -row["utility"]))
    return rows


def _transient(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all changes of all seeds: median time to recover, how often never, mean loss, what was overspent."""
    changes = [change for s in summaries for change in s["changes"]]
    if not changes:
        return {"recovery_s": None, "not_recovered": 0, "transient_loss": None, "transient_over": {}}
    times = [change["recovery_s"] for change in changes if change["recovery_s"] is not None]
    return {
        "recovery_s": float(np.median(times)) if times else None,
        "not_recovered": len(changes) - len(times),
        "transient_loss": float(np.mean([change["loss"] for change in changes])),
        "transient_over": {
            name: float(np.mean([change["over"][name] for change in changes])) for name in changes[0]["over"]
        },
    }
