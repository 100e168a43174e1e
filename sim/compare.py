"""How far two engines agree on the same requests and Decisions (the design's parity)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from ..errors import UsageError
from ..policies.decision import Decision
from .records import Table

__all__ = ["NEAR", "compare"]

NEAR = 1e-4
"""A margin this near to a threshold, or to a tie, may fall on either side: batches change the sixth digit."""


def compare(live: Table, virtual: Table) -> dict[str, Any]:
    """Compare one policy's requests, row by row.

    Bytes and device exits are compared on all requests that neither engine degraded; server answers on those that
    both sent, but for symbols. Latencies are compared as quantiles of the undegraded requests, in full and less the
    delay that the channel injected. `within` is the design's bound: 25 % in full; 25 % or 3 ms of the rest.
    """
    for name in ("device", "request", "sample"):
        if not np.array_equal(live[name], virtual[name]):
            raise UsageError("the two runs are not of the same requests")
    degraded = live["degraded"] | virtual["degraded"]
    whole = ~degraded
    local = live["local"] & virtual["local"] & whole
    served = ~live["local"] & ~virtual["local"] & whole
    # Noise on symbols hangs on when they were sent: of those only the mean is compared.
    noisy = served & (virtual["channel_uses"] > 0)
    sent = served & ~noisy
    differs = sent & ((live["prediction"] != virtual["prediction"]) | (live["exit"] != virtual["exit"]))
    close = _near(live, virtual)
    near = differs & close
    # A first answer on the edge of being asked for more: one engine sent more, the other did not.
    turned = close & (live["refined"] != virtual["refined"])
    result: dict[str, Any] = {
        "requests": len(whole),
        "degraded_in_either": int(degraded.sum()),
        "decisions_differ": int(
            sum((live[name] != virtual[name]) for name in (field.name for field in fields(Decision)))
            .astype(bool)
            .sum()
        ),
        "bytes_differ": int((whole & ~turned & (live["uplink_bytes"] != virtual["uplink_bytes"])).sum()),
        "place_differs": int((whole & (live["local"] != virtual["local"])).sum()),
        "device_answers_differ": int(
            (
                local & ((live["exit"] != virtual["exit"]) | (live["prediction"] != virtual["prediction"]))
            ).sum()
        ),
        "server_answers": int(sent.sum()),
        "server_answers_differ": int((differs & ~near).sum()),
        "near_ties": int((near | (whole & turned)).sum()),
        "latency": {},
    }
    both = {"live": live, "virtual": virtual}
    if noisy.any():
        accuracy = {name: float(columns["correct"][noisy].mean()) for name, columns in both.items()}
        result["symbols"] = {"answers": int(noisy.sum()), "accuracy": accuracy}
    full = {name: _latency(columns)[whole] for name, columns in both.items()}
    rest = {name: (_latency(columns) - _injected(columns))[whole] for name, columns in both.items()}
    for label, values, slack_s in (("full", full, 0.0), ("less_injected", rest, 0.003)):
        for quantile in (0.5, 0.95):
            result["latency"][f"{label}_p{round(100 * quantile)}"] = _row(values, quantile, slack_s)
    result["within"] = (
        not any(
            result[name]
            for name in ("bytes_differ", "place_differs", "device_answers_differ", "server_answers_differ")
        )
        and result["near_ties"] <= 0.001 * max(1, result["server_answers"])
        and all(row["within"] for row in result["latency"].values())
    )
    return result


def _near(live: Table, virtual: Table) -> np.ndarray:
    near = np.zeros(len(live["margin"]), bool)
    for columns in (live, virtual):
        margin = columns["margin"]
        near |= (margin < NEAR) | (np.abs(margin - columns["exit_margin"]) < NEAR)
        near |= ~columns["refined"] & (np.abs(margin - columns["refine_margin"]) < NEAR)
    return near


def _latency(columns: Table) -> np.ndarray:
    return columns["latency_s"]


def _injected(columns: Table) -> np.ndarray:
    return np.nan_to_num(columns["uplink_s"]) + np.nan_to_num(columns["downlink_s"])


def _row(values: dict[str, np.ndarray], quantile: float, slack_s: float) -> dict[str, Any]:
    if not len(values["live"]):
        return {"live_s": None, "virtual_s": None, "within": True}
    live, virtual = (float(np.quantile(values[name], quantile)) for name in ("live", "virtual"))
    allowed = max(0.25 * virtual, slack_s)
    return {"live_s": live, "virtual_s": virtual, "within": abs(live - virtual) <= allowed}
