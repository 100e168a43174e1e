"""Accuracy of every policy against what it costs: bytes or latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .intervals import interval_of_p95, mean_and_half
from .records import Table
from .report_labels import place_labels
from .report_style import POLICY_MARKERS, blank, darker, policy_colour, short_names

__all__ = ["accuracy_figure", "draw_accuracy"]


def accuracy_figure(
    summaries: Sequence[Mapping[str, Any]], tables: Mapping[str, Table], against: str
) -> Figure:
    """Accuracy against `against` ("bytes" or "p95"), one point a policy, 95 % error bars both ways."""
    fig = Figure(figsize=(4.9, 3.9))
    ax = fig.subplots()
    fig.subplots_adjust(left=0.125, right=0.97, top=0.97, bottom=0.12)
    draw_accuracy(ax, summaries, tables, against)
    return fig


def draw_accuracy(
    ax: Axes, summaries: Sequence[Mapping[str, Any]], tables: Mapping[str, Table], against: str
) -> None:
    """Fill one plot; policies without an accuracy are left out."""
    rows = []
    for place, summary in enumerate(summaries):
        columns = tables.get(summary["policy"])
        values = (
            np.empty(0) if columns is None else columns["uplink_bytes" if against == "bytes" else "latency_s"]
        )
        if len(values) and np.isfinite(summary["accuracy"]):
            centre, low, high = _mean(values) if against == "bytes" else _p95(values)
            rows.append((place, centre, low, high, *_accuracy(summary)))
    if not rows:
        blank(ax, "no request was answered")
        return
    found = np.array(rows)
    kilo = against == "bytes" and found[:, 1].max() >= 1000
    found[:, 1:4] *= 1e3 if against == "p95" else 1e-3 if kilo else 1.0
    found[:, 4:] *= 100.0
    x, x_low, x_high, y, y_low, y_high = found[:, 1:].T
    bars = np.stack([x - x_low, x_high - x, y - y_low, y_high - y], axis=1)
    places_ = found[:, 0].astype(int)
    for row, place in enumerate(places_):
        ax.errorbar(
            x[row], y[row], xerr=bars[row, :2, None], yerr=bars[row, 2:, None], color=policy_colour(place),
            marker=POLICY_MARKERS[place % len(POLICY_MARKERS)], markersize=6.5, elinewidth=1.0, capsize=2.5,
            markeredgecolor="white", markeredgewidth=0.6, zorder=4,
        )  # fmt: skip
    # From 0, so that lengths compare; room at the right and above for the names.
    ax.set_xlim(-0.04 * x_high.max(), max(1.16 * x_high.max(), 1e-9) if x_high.max() > 0 else 1.0)
    room = max(1.0, 0.14 * (y_high.max() - y_low.min()))
    ax.set_ylim(y_low.min() - room, y_high.max() + room)
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if 0 <= value <= 100 else ""))
    ax.set_ylabel("accuracy, %")
    unit = "kB" if kilo else "B"
    ax.set_xlabel(
        f"mean uplink of a request, {unit}" if against == "bytes" else "latency that 95 % stay within, ms"
    )
    colours = [darker(policy_colour(place)) for place in places_]
    names = short_names([str(summaries[place]["policy"]) for place in places_], 20)
    place_labels(ax, np.stack([x, y], axis=1), names, bars, colours)


def _accuracy(summary: Mapping[str, Any]) -> tuple[float, float, float]:
    accuracy = float(summary["accuracy"])
    low, high = summary.get("accuracy_ci95") or (np.nan, np.nan)
    if np.isnan(low) or np.isnan(high):
        return accuracy, accuracy, accuracy
    return accuracy, float(low), float(high)


def _mean(values: np.ndarray) -> tuple[float, float, float]:
    centre, half = mean_and_half(values)
    half = half if len(values) > 1 else 0.0
    return centre, max(0.0, centre - half), centre + half


def _p95(values: np.ndarray) -> tuple[float, float, float]:
    return float(np.quantile(values, 0.95)), *interval_of_p95(values)
