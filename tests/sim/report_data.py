"""A made-up run for the tests of the report: plausible columns without running an engine."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from splitpoint.models.card import ModelCard
from splitpoint.sim.metrics import summarise
from splitpoint.sim.records import Record, Table, columns_of, table
from splitpoint.sim.report import write_report
from splitpoint.sim.scenario import Scenario

POLICIES = ("local", "split", "greedy")
CARD = ModelCard(
    name="tiny", image_size=(32, 32), channels=1, classes=tuple("0123456789"), mean=(0.5,), std=(0.5,),
    patch=8, dim=16, depth=4, heads=2, exits=(1, 2, 4), exit_state_dim=8,
)  # fmt: skip


def scenario(*policies: str, **changes: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "made up",
            "deadline_s": 0.2,
            "devices": [{"count": 4}],
            "channel": {"link": {"kind": "rayleigh", "doppler_hz": 2.0}},
            "policies": [
                {"kind": "static", "name": name, "decision": {"split": 4}} for name in policies or ("local",)
            ],
            **changes,
        }
    )


def columns(policy: str, count: int, deadline_s: float = 0.2) -> Table:
    """Requests of a policy. "local" never sends; names with "greedy" choose by the rate."""
    draws = np.random.default_rng(zlib.crc32(policy.encode()))
    found = dict(table(columns_of([]), np.empty(0, np.int64), deadline_s))
    arrival_s = np.sort(draws.uniform(0.0, 10.0, count))
    rate_bps = draws.uniform(2e5, 2e6, count)
    rate_bps[:1] = np.nan
    split = np.full(count, 4 if policy == "local" else 2)
    if "greedy" in policy:
        split = np.where(rate_bps < 6e5, 4, np.where(rate_bps > 1.5e6, 0, draws.integers(1, 3, count)))
    offloaded = split < 4
    degraded = offloaded & (draws.random(count) < 0.1)
    local = ~offloaded | degraded
    sent_s = np.where(offloaded & ~degraded, draws.uniform(0.01, 0.1, count), np.nan)
    head_s = 0.01 * split
    latency_s = 0.003 + head_s + np.where(degraded, 0.18, np.nan_to_num(3 * sent_s))
    label = draws.integers(0, 10, count)
    votes = np.where(local | ("quorum" not in policy), 0, draws.integers(1, 4, count))
    values: dict[str, Any] = {
        "device": np.arange(count) % 4, "request": np.arange(count) // 4, "sample": np.arange(count),
        "arrival_s": arrival_s, "start_s": arrival_s + 0.002, "done_s": arrival_s + latency_s, "split": split,
        "keep": 0.25, "dims": 8, "bits": 4, "symbols": 0.0, "exit_margin": 0.8, "offload_slope": -2.0,
        "refine_bits": 0, "refine_keep": 0.0, "refine_margin": 0.0, "merge": 1.0, "refined": False,
        "cut": split, "exit": np.where(local, np.clip(split - 1, 0, 2), 2), "margin": draws.random(count),
        "prediction": np.where(draws.random(count) < 0.9, label, (label + 1) % 10), "offloaded": offloaded,
        "local": local, "degraded": degraded, "uplink_bytes": 300 * offloaded,
        "channel_uses": 0, "downlink_bytes": 50 * offloaded, "votes": votes, "asked": votes,
        "quorum_macs": 1_000_000 * votes,
        "head_s": head_s, "uplink_s": sent_s, "server_s": sent_s, "downlink_s": sent_s,
        "airtime_up_s": 0.01 * offloaded, "airtime_down_s": 0.001 * offloaded, "energy_j": 0.05,
        "snr_estimate_db": 10.0, "rate_estimate_bps": rate_bps, "policy_replaced": False, "label": label,
        "latency_s": latency_s, "late": latency_s > deadline_s,
    }  # fmt: skip
    values["correct"] = values["prediction"] == label
    assert set(Record._fields) <= set(values) == set(found)
    return {name: np.broadcast_to(values[name], count).astype(found[name].dtype) for name in found}


def run(*policies: str, count: int = 80, **changes: Any) -> dict[str, Any]:
    """The arguments of `write_report` for a made-up run of these policies."""
    made = scenario(*policies, **changes)
    tables = {name: columns(name, count) for name in policies}
    summaries = [summarise(name, "profile", count, part, made.weights()) for name, part in tables.items()]
    return {
        "scenario": made, "engine": "profile", "summaries": summaries, "tables": tables, "card": CARD,
        "seed": 7, "pictures": [],
    }  # fmt: skip


def page(path: Path, arguments: dict[str, Any]) -> str:
    """The report on a run of these arguments, as text."""
    write_report(path / "report.html", **arguments)
    return (path / "report.html").read_text(encoding="utf-8")


def svgs(text: str) -> list[str]:
    return re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)
