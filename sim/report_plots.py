"""The report's comparisons of policies: where requests were answered, latencies and their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .records import Table
from .report_bars import bar_figure, stacked_bars, write_shares
from .report_lanes import places
from .report_style import (
    DEADLINE,
    FALLBACK,
    PLACES,
    POLICY_DASHES,
    blank,
    legend_below,
    policy_colour,
    ramp,
    short_names,
)

__all__ = [
    "PARTS",
    "breakdown_figure",
    "cdf_figure",
    "latency_parts",
    "places_figure",
]

_CURVE_POINTS = 400
PARTS = (
    ("waiting in the device's queue", "#bdbdbd", ""),
    ("computing on the device", PLACES[0].colour, ""),
    ("computing others of its burst", PLACES[0].light, "\\\\\\\\"),
    ("uplink", "#56b4e9", "////"),
    ("server", PLACES[1].colour, ""),
    ("downlink", "#f0e442", "...."),
    ("rest: codec and RPC", "#cc79a7", ""),
    ("waiting in vain for the server", PLACES[FALLBACK].colour, ""),
)


def places_figure(tables: Mapping[str, Table], exits: Sequence[int]) -> Figure:
    """Which exit answered, device exits first, then the server's, then the fallback; in shares."""
    count = len(exits)
    colours = [
        *ramp(PLACES[0].light, PLACES[0].dark, count), *ramp(PLACES[1].light, PLACES[1].dark, count),
        PLACES[FALLBACK].colour,
    ]  # fmt: skip
    own = [f"exit {i + 1} (block {after})" for i, after in enumerate(exits)]
    labels = [f"device, {exit}" for exit in own]
    if any(columns["votes"].any() for columns in tables.values()):
        # The learners' gates come after other blocks of theirs.
        labels += [f"quorum, gate {i + 1}" for i in range(count)]
    else:
        labels += [f"server, {exit}" for exit in own]
    labels.append("fallback on the device")
    shares = np.zeros((len(tables), 2 * count + 1))
    for row, columns in enumerate(tables.values()):
        index = np.minimum(places(columns) * count + np.clip(columns["exit"], 0, count - 1), 2 * count)
        index = np.where(places(columns) == FALLBACK, 2 * count, index)
        shares[row] = np.bincount(index, minlength=2 * count + 1) / max(1, len(index))
    used = np.flatnonzero(shares.any(axis=0))
    fig, ax = bar_figure(list(tables), -(-max(1, len(used)) // 4))
    if not len(used):
        blank(ax, "no request was answered")
        return fig
    stacked_bars(ax, list(tables), 100 * shares[:, used], [colours[i] for i in used], [""] * len(used))
    write_shares(ax, shares[:, used], [colours[i] for i in used])
    ax.set_xlim(0, 100)
    ax.set_xlabel("share of the policy's answered requests, %")
    legend_below(fig, [Patch(facecolor=colours[i], label=labels[i]) for i in used], 4)
    return fig


def latency_parts(columns: Table) -> np.ndarray:
    """Mean seconds of each of PARTS over a policy's requests, (8,).

    Requests that are merged begin together, and each waits for the blocks of the others too. A trip whose reply was
    not used is waiting in vain as a whole, however far it came.
    """
    if not len(columns["device"]):
        return np.zeros(len(PARTS))
    used = columns["offloaded"] & ~columns["local"]
    vain = columns["offloaded"] & columns["local"]
    queue = columns["start_s"] - columns["arrival_s"]
    trip = [
        np.where(used, np.nan_to_num(columns[name]), 0.0) for name in ("uplink_s", "server_s", "downlink_s")
    ]
    rest = np.maximum(columns["latency_s"] - queue - columns["head_s"] - sum(trip), 0.0)
    others = np.minimum(rest, _computed_together(columns) - columns["head_s"])
    rest = rest - others
    parts = (queue, columns["head_s"], others, *trip, np.where(vain, 0.0, rest), np.where(vain, rest, 0.0))
    return np.array([values.mean() for values in parts])


def _computed_together(columns: Table) -> np.ndarray:
    """Seconds of computing for all requests that a device began at the same moment, by request; those follow each
    other in the table."""
    another = (np.diff(columns["device"]) != 0) | (np.diff(columns["start_s"]) != 0.0)
    batch = np.concatenate([[0], np.cumsum(another)])
    seconds: np.ndarray = np.bincount(batch, columns["head_s"])[batch]
    return seconds


def breakdown_figure(tables: Mapping[str, Table]) -> Figure:
    """Mean latency of each policy, in parts."""
    fig, ax = bar_figure(list(tables), 2)
    parts = 1e3 * np.array([latency_parts(columns) for columns in tables.values()]).reshape(-1, len(PARTS))
    if not parts.any():
        blank(ax, "no request was answered")
        return fig
    used = np.flatnonzero((parts > 1e-6).any(axis=0))  # rounding leaves less
    parts = parts[:, used]
    names, colours, hatches = zip(*(PARTS[i] for i in used), strict=True)
    stacked_bars(ax, list(tables), parts, colours, hatches)
    for row, total in enumerate(parts.sum(axis=1)):
        ax.annotate(
            f"{total:.0f} ms" if total >= 10 else f"{total:.1f} ms", (total, row), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    ax.set_xlim(0, 1.04 * parts.sum(axis=1).max())
    ax.set_xlabel("mean latency of a request, ms")
    legend_below(
        fig,
        [
            Patch(facecolor=c, hatch=h or None, edgecolor="white", label=n)
            for n, c, h in zip(names, colours, hatches, strict=True)
        ],
        4,
    )
    return fig


def cdf_figure(
    tables: Mapping[str, Table], issued: Mapping[str, int], deadline_s: float
) -> tuple[Figure, str]:
    """How many of a policy's requests were answered within a time; lost ones never are. And what it means where a
    curve ends."""
    fig = Figure(figsize=(9.6, 3.9))
    ax = fig.subplots()
    shown = short_names(list(tables), 30)
    columns_of_legend = 4 if max(map(len, shown), default=0) < 18 else 3
    legend_rows = -(-len(tables) // columns_of_legend)
    fig.subplots_adjust(left=0.065, right=0.97, top=0.97, bottom=(0.5 + 0.2 * legend_rows) / 3.9)
    filled = {name: np.sort(1e3 * c["latency_s"]) for name, c in tables.items() if len(c["device"])}
    if not filled:
        blank(ax, "no request was answered")
        return fig, ""
    highest = max(float(np.quantile(values, 0.999)) for values in filled.values())
    top = min(max(1.08 * highest, 1.25e3 * deadline_s), 4e3 * deadline_s)
    handles = []
    for place, name in enumerate(tables):
        style: dict[str, Any] = {
            "color": policy_colour(place), "linewidth": 1.8,
            "linestyle": POLICY_DASHES[place % len(POLICY_DASHES)],
        }  # fmt: skip
        handles.append(Line2D([], [], label=shown[place], **style))
        if name not in filled:
            continue
        values = filled[name]
        total = max(issued.get(name, 0), len(values))
        ranks = np.unique(np.linspace(0, len(values) - 1, min(len(values), _CURVE_POINTS)).astype(int))
        x = np.concatenate([[0.0], values[ranks], [max(top, values[-1])]])
        y = 100 * np.concatenate([[0.0], (ranks + 1) / total, [len(values) / total]])
        ax.step(x, y, where="post", **style)
    ax.axvline(1e3 * deadline_s, color=DEADLINE, linewidth=1.1, linestyle=(0, (5, 3)), zorder=1.5)
    ax.annotate(
        "deadline", (1e3 * deadline_s, 0.03), xycoords=("data", "axes fraction"), xytext=(4, 0),
        textcoords="offset points", color=DEADLINE, fontsize=8.5,
    )  # fmt: skip
    ax.set_xlim(0, top)
    ax.set_ylim(0, 102)
    ax.set_xlabel("latency, ms")
    ax.set_ylabel("answered within that time, %")
    legend_below(fig, handles, columns_of_legend)
    beyond = sum(int((values > top).sum()) for values in filled.values())
    if beyond:
        return fig, f"{beyond:,} answers took longer than the scale shows: there curves end below 100 %."
    return fig, "A curve that ends below 100 % lost requests."
