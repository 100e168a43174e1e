"""A run in one picture, for a README or a slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .records import Table
from .report_accuracy import draw_accuracy
from .report_headline import by_utility
from .report_lanes import draw_lane, lane_legend, lane_scale
from .report_style import blank, drawing
from .scenario import Scenario

__all__ = ["draw_overview"]

_DOTS = 1500


def draw_overview(
    summaries: Sequence[Mapping[str, Any]], tables: Mapping[str, Table], scenario: Scenario
) -> Figure:
    """The figure of `report.overview_figure`."""
    ranked = [s for s in by_utility(summaries) if s["policy"] in tables]
    shown = ranked[:1] + sorted(ranked[1:], key=lambda s: -s["offloaded_fraction"])[:1]
    lanes = {str(s["policy"]): tables[s["policy"]] for s in shown}
    with drawing():
        fig = Figure(figsize=(11.0, 5.3), dpi=150)
        left = fig.add_gridspec(2, 1, left=0.055, right=0.60, top=0.94, bottom=0.225, hspace=0.34)
        right = fig.add_gridspec(2, 1, left=0.72, right=0.985, top=0.965, bottom=0.10, hspace=0.34)
        scale = lane_scale(list(lanes.values()), scenario.deadline_s)
        upper = fig.add_subplot(left[0])
        lower = fig.add_subplot(left[1], sharex=upper)
        for lane, ax in enumerate((upper, lower)):
            if lane < len(lanes):
                name, columns = list(lanes.items())[lane]
                draw_lane(ax, name, columns, scenario, scale, seed=scenario.seed, lane=lane, dots=_DOTS)
            else:
                blank(ax, "" if lanes else "no policy was run")
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("time of the run, s")
        lane_legend(fig, list(lanes.values()), scenario, columns=3, centre=0.3275)
        for place, against in enumerate(("bytes", "p95")):
            draw_accuracy(fig.add_subplot(right[place]), ranked, tables, against)
    return fig
