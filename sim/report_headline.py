"""The outcome of a run in a table and in a few sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..policies.budgets import FEASIBLE_WITHIN

__all__ = ["by_utility", "failed_policies", "headline", "headline_rows", "number", "plus_minus"]

Summary = Mapping[str, Any]


def number(value: Any, digits: int = 1, scale: float = 1.0) -> str:
    """A number for a table, with thousands separated; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{scale * float(value):,.{digits}f}"


def plus_minus(interval: Sequence[float] | None, digits: int, scale: float = 1.0) -> str:
    """`±` and half the interval's width; '' where there is none."""
    if not interval or not all(math.isfinite(end) for end in interval):
        return ""
    return f"±{scale * (interval[1] - interval[0]) / 2:.{digits}f}"


def by_utility(summaries: Sequence[Summary]) -> list[Summary]:
    """Best utility first; those over a budget after all others, those without utility last."""

    def rank(summary: Summary) -> tuple[bool, float]:
        utility = summary["utility"]
        return not summary.get("feasible", True), -utility if math.isfinite(utility) else math.inf

    return sorted(summaries, key=rank)


def _rivals(summaries: Sequence[Summary]) -> list[Summary]:
    """Those with a utility, the best first, without the clairvoyant ones, unless there are no others."""
    ranked = [s for s in by_utility(summaries) if math.isfinite(s["utility"])]
    return [s for s in ranked if not s.get("clairvoyant")] or ranked


def headline_rows(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Rows of the headline table as text, best utility first."""
    best = next((s for s in _rivals(summaries) if s.get("feasible", True)), None)
    return [
        {
            "policy": str(s["policy"]),
            "best": s is best and len(summaries) > 1,
            "clairvoyant": bool(s.get("clairvoyant")),
            "utility": number(s["utility"], 3),
            "utility_ci": plus_minus(s.get("utility_ci95"), 3),
            "accuracy": number(s["accuracy"], 1, 100),
            "accuracy_ci": plus_minus(s.get("accuracy_ci95"), 1, 100),
            "p50": number(s["latency_p50_s"], 1, 1e3),
            "p95": number(s["latency_p95_s"], 1, 1e3),
            "p99": number(s["latency_p99_s"], 1, 1e3),
            "uplink": number(s["uplink_bytes_mean"], 2, 1e-3),
            "energy": number(s["device_energy_mean_j"], 1, 1e3),
            "local": number(s["local_fraction"], 0, 100),
            "requests": f"{s['requests']:,}",
            "degraded": s["degraded"],
            "late": s["late"],
            "lost": s["lost"],
            "feasible": bool(s.get("feasible", True)),
        }
        for s in by_utility(summaries)
    ]


def headline(summaries: Sequence[Summary]) -> list[str]:
    """The outcome in a few sentences."""
    ranked = _rivals(summaries)
    if not ranked:
        return ["No request was answered, so there is nothing to compare."]
    best = ranked[0]
    said = []
    if len(ranked) > 1:
        second, within = ranked[1], [s.get("feasible", True) for s in ranked]
        whose = (
            "" if all(within) else " of those within their budgets" if any(within) else ", all over budget"
        )
        said.append(
            f"“{best['policy']}” has the highest utility{whose}, {number(best['utility'], 3)}; "
            f"“{second['policy']}” follows with {number(second['utility'], 3)}."
        )
    said.append(
        f"{'It' if said else 'The policy “' + str(best['policy']) + '”'} answered "
        f"{number(best['accuracy'], 1, 100)} % correctly, 95 % of its requests within "
        f"{number(best['latency_p95_s'], 0, 1e3)} ms, and sent {_sent(best['uplink_bytes_mean'])}."
    )
    seeing = [s for s in by_utility(summaries) if s.get("clairvoyant") and s not in ranked]
    if seeing:
        bounds = ", ".join(f"“{s['policy']}” {number(s['utility'], 3)}" for s in seeing)
        said.append(f"Clairvoyant, and so no rivals: {bounds}.")
    lost = sum(s["lost"] for s in summaries)
    twice = sum(s.get("answered_twice", 0) for s in summaries)
    said.append(f"{lost:,} requests were lost." if lost else "No request was lost.")
    if twice:
        said.append(f"{twice:,} answers were given a second time, which must not happen.")
    said += failed_policies(summaries)
    said += [_over(s) for s in summaries if not s.get("feasible", True)]
    return said


def failed_policies(summaries: Sequence[Summary]) -> list[str]:
    """A sentence for each policy whose Decisions were replaced."""
    return [
        f"“{s['policy']}” failed to decide on {s['policy_replaced']:,} requests; a fixed Decision stood in."
        for s in summaries
        if s.get("policy_replaced")
    ]


def _over(summary: Summary) -> str:
    spent = ", ".join(
        f"{name.rpartition('_')[0]} by {number(line['violation'], 0, 100)} %"
        for name, line in summary["budgets"].items()
        if line["violation"] > FEASIBLE_WITHIN
    )
    return f"“{summary['policy']}” is over budget and ranks behind all that are not: {spent}."


def _sent(mean_bytes: float) -> str:
    if not mean_bytes > 0:
        return "nothing to the server"
    size = f"{number(mean_bytes, 2, 1e-3)} kB" if mean_bytes >= 1000 else f"{number(mean_bytes, 0)} B"
    return f"{size} to the server for the average request"
