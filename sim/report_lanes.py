"""What happened over time: one lane a policy, a dot a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ..seeding import generator
from .records import Table
from .report_facts import FAULTS
from .report_style import DEADLINE, FALLBACK, INK, PLACES, SOFT, blank, legend_below, shorten
from .scenario import Scenario
from .sections import Fault

__all__ = ["LaneScale", "draw_lane", "lane_figure", "lane_legend", "lane_scale", "places"]

_DOTS = 6000
_BINS = 160


class LaneScale(NamedTuple):
    """What all lanes of a figure share: ends of both axes, and the unit of the estimated rate."""

    start_s: float
    end_s: float
    top_ms: float
    rate_top: float
    rate_unit: float
    rate_name: str


def places(columns: Table) -> np.ndarray:
    """Where each request was answered, as an index of PLACES, int (requests,)."""
    return np.where(columns["degraded"], FALLBACK, np.where(columns["local"], 0, 1))


def lane_scale(tables: Sequence[Table], deadline_s: float) -> LaneScale:
    """One scale for these tables: up to nearly all latencies, but not far beyond the deadline."""
    filled = [columns for columns in tables if len(columns["arrival_s"])]
    if not filled:
        return LaneScale(0.0, 1.0, 1e3 * deadline_s, 1.0, 1e6, "Mbit/s")
    end_s = max(float(columns["arrival_s"].max()) for columns in filled)
    highest_ms = 1e3 * max(float(np.quantile(columns["latency_s"], 0.999)) for columns in filled)
    top_ms = min(max(1.1 * highest_ms, 1.25e3 * deadline_s), 2.5e3 * deadline_s)
    rates = np.concatenate([columns["rate_estimate_bps"] for columns in filled])
    rates = rates[np.isfinite(rates)]
    rate = float(np.quantile(rates, 0.99)) if len(rates) else 1.0
    unit, name = (1e6, "Mbit/s") if rate >= 1e6 else (1e3, "kbit/s")
    return LaneScale(0.0, max(end_s, 1e-3), top_ms, max(1.15 * rate / unit, 1e-9), unit, name)


def lane_figure(tables: Mapping[str, Table], scenario: Scenario, seed: int) -> tuple[Figure, str]:
    """The figure of all policies, and what must be said of it beside the plain caption ('' if nothing)."""
    count = max(1, len(tables))
    fig = Figure(figsize=(9.6, 1.35 * count + 1.05))
    height = fig.get_figheight()
    axes = fig.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    fig.subplots_adjust(left=0.065, right=0.93, top=1 - 0.3 / height, bottom=0.85 / height, hspace=0.32)
    scale = lane_scale(list(tables.values()), scenario.deadline_s)
    if not tables:
        blank(axes[0], "no policy was run")
    left_out = beyond = 0
    for lane, (ax, (name, columns)) in enumerate(zip(axes, tables.items(), strict=False)):
        missing, above = draw_lane(
            ax, name, columns, scenario, scale, seed=seed, lane=lane, dots=_DOTS // count
        )
        left_out += missing
        beyond += above
    axes[-1].set_xlabel("time of the run, s")
    lane_legend(fig, list(tables.values()), scenario, columns=4)
    return fig, _remark(left_out, beyond, sum(len(columns["device"]) for columns in tables.values()))


def _remark(left_out: int, beyond: int, total: int) -> str:
    parts = []
    if left_out:
        parts.append(
            f"Of {total:,} requests {total - left_out:,} are drawn, chosen at random "
            "within each kind of dot, so rare kinds look more frequent than they are."
        )
    if beyond:
        parts.append(f"{beyond:,} drawn at the upper edge took longer than the scale shows.")
    return " ".join(parts)


def draw_lane(
    ax: Axes,
    name: str,
    columns: Table,
    scenario: Scenario,
    scale: LaneScale,
    *,
    seed: int,
    lane: int,
    dots: int,
) -> tuple[int, int]:
    """Draw one policy. Returns how many requests are left out and how many lie at the upper edge."""
    ax.set_title(shorten(name, 60), loc="left", fontweight="bold", pad=4)
    span_s = scale.end_s - scale.start_s
    ax.set_xlim(scale.start_s - 0.01 * span_s, scale.end_s + 0.01 * span_s)
    ax.set_ylim(0.0, scale.top_ms)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set_ylabel("latency, ms")
    _draw_faults(ax, scenario.faults, scale)
    if len(columns["device"]) == 0:
        ax.text(
            0.5, 0.5, "no request was answered", transform=ax.transAxes, ha="center", va="center", color=SOFT
        )
        return 0, 0
    _draw_rate(ax, columns, scale)
    _draw_degraded(ax, columns, scale)
    ax.axhline(1e3 * scenario.deadline_s, color=DEADLINE, linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
    chosen = _thin(places(columns), dots, seed, lane)
    where = places(columns)[chosen]
    arrival_s, latency_ms = columns["arrival_s"][chosen], 1e3 * columns["latency_s"][chosen]
    above = latency_ms > scale.top_ms
    latency_ms = np.minimum(latency_ms, 0.985 * scale.top_ms)
    size = 4.2 if len(chosen) < 500 else 3.2 if len(chosen) < 1500 else 2.4
    for index, place in enumerate(PLACES):
        mask = where == index
        if mask.any():
            ax.plot(
                arrival_s[mask], latency_ms[mask], linestyle="", marker=place.marker, color=place.colour,
                markersize=size + (0.9 if index == FALLBACK else 0.0),
                markeredgewidth=0.3, markeredgecolor="white", alpha=0.9, zorder=3 + index, clip_on=False,
            )  # fmt: skip
    return len(columns["device"]) - len(chosen), int(above.sum())


def lane_legend(
    fig: Figure, tables: Sequence[Table], scenario: Scenario, columns: int, centre: float = 0.5
) -> None:
    """What dots, lines and areas mean; places where nobody was answered are left out."""
    seen: set[int] = set()
    for part in tables:
        seen |= set(np.unique(places(part)).tolist())
    handles: list[Line2D | Patch] = [
        Line2D(
            [], [], linestyle="", marker=place.marker, color=place.colour, markersize=5.5, label=place.label
        )
        for index, place in enumerate(PLACES)
        if index in seen
    ]
    handles.append(Line2D([], [], color=DEADLINE, linestyle=(0, (5, 3)), linewidth=1.1, label="deadline"))
    if any(np.isfinite(part["rate_estimate_bps"]).any() for part in tables):
        handles.append(
            Patch(facecolor="#dfe5ea", edgecolor="#a9b6c2", linewidth=0.8, label="estimated rate of the link")
        )
    if FALLBACK in seen:
        handles.append(Patch(facecolor=INK, label="strip at the foot: share of fallbacks"))
    # A run may be over before a fault comes.
    end_s = max((float(part["arrival_s"].max()) for part in tables if len(part["arrival_s"])), default=0.0)
    if any(fault.at_s < end_s for fault in scenario.faults):
        handles.append(
            Patch(
                facecolor="#f7d9d3",
                hatch="///",
                edgecolor="#e3a89d",
                linewidth=0,
                label="fault of the server",
            )
        )
    legend_below(fig, handles, columns, centre)


def _draw_faults(ax: Axes, faults: Sequence[Fault], scale: LaneScale) -> None:
    for fault in faults:
        end_s = min(fault.at_s + fault.for_s, scale.end_s)
        if fault.at_s >= scale.end_s:
            continue
        ax.axvspan(
            fault.at_s, end_s, facecolor="#f7d9d3", edgecolor="#e3a89d", hatch="///", linewidth=0, zorder=0.4
        )
        said = f"{shorten(fault.process or 'server')} {FAULTS[fault.kind]}"
        ax.annotate(
            said, (0.5 * (fault.at_s + end_s), 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom", fontsize=8, color="#9c3a2a",
            annotation_clip=True,
        )  # fmt: skip


def _binned(columns: Table, scale: LaneScale) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins of time, and each request's bin."""
    edges = np.linspace(scale.start_s, scale.end_s, _BINS + 1)
    return edges, np.clip(np.searchsorted(edges, columns["arrival_s"], side="right") - 1, 0, _BINS - 1)


def _draw_rate(ax: Axes, columns: Table, scale: LaneScale) -> None:
    """The median estimate of all devices in each bin, held where there is none, on an axis of its own."""
    known = np.isfinite(columns["rate_estimate_bps"])
    if not known.any():
        return
    edges, bins = _binned(columns, scale)
    rates, bins = columns["rate_estimate_bps"][known] / scale.rate_unit, bins[known]
    order = np.argsort(bins, kind="stable")
    groups = np.split(rates[order], np.flatnonzero(np.diff(bins[order])) + 1)
    filled = np.full(_BINS, np.nan)
    filled[np.unique(bins)] = [float(np.median(group)) for group in groups]
    held = np.maximum.accumulate(np.where(np.isfinite(filled), np.arange(_BINS), 0))
    behind = ax.twinx()
    behind.set_zorder(ax.get_zorder() - 1)
    ax.patch.set_visible(False)
    behind.stairs(filled[held], edges, baseline=0.0, fill=True, color="#e4e9ee")
    behind.stairs(filled[held], edges, baseline=None, color="#a9b6c2", linewidth=0.8)
    behind.set_ylim(0.0, scale.rate_top)
    behind.yaxis.set_major_locator(MaxNLocator(3))
    behind.set_ylabel(scale.rate_name, color=SOFT)
    behind.tick_params(axis="y", colors=SOFT)
    behind.spines["right"].set_visible(True)
    behind.grid(visible=False)


def _draw_degraded(ax: Axes, columns: Table, scale: LaneScale) -> None:
    """A strip under the dots, the darker the more of a bin's requests the fallback answered."""
    edges, bins = _binned(columns, scale)
    degraded = np.bincount(bins, weights=columns["degraded"], minlength=_BINS)
    share = degraded / np.maximum(np.bincount(bins, minlength=_BINS), 1)
    hit = np.flatnonzero(share)
    if len(hit):
        ax.broken_barh(
            [(edges[i], edges[i + 1] - edges[i]) for i in hit], (-0.045, 0.04),
            transform=ax.get_xaxis_transform(), clip_on=False, zorder=2,
            facecolors=[(0.13, 0.13, 0.13, 0.2 + 0.8 * share[i]) for i in hit],
        )  # fmt: skip


def _thin(where: np.ndarray, limit: int, seed: int, lane: int) -> np.ndarray:
    """Indices of at most about `limit` requests: each place gets an equal part of what others leave over."""
    kinds = [np.flatnonzero(where == index) for index in range(len(PLACES))]
    draws = generator(seed, "report-dots", lane)
    chosen = []
    left = limit
    by_size = sorted(kinds, key=len)
    for done, kind in enumerate(by_size):
        quota = left // (len(by_size) - done)
        if len(kind) > quota:
            kind = draws.choice(kind, quota, replace=False)
        chosen.append(kind)
        left -= len(kind)
    return np.sort(np.concatenate(chosen))
