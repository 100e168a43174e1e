"""Stacked horizontal bars, one a policy: what several of the report's figures are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from .report_style import INK, short_names

__all__ = ["bar_figure", "stacked_bars", "write_shares"]


def stacked_bars(
    ax: Axes, names: Sequence[str], widths: np.ndarray, colours: Sequence[str], hatches: Sequence[str]
) -> None:
    """Stacked horizontal bars, the first name on top; widths (names, parts)."""
    rows = np.arange(len(names))
    left = np.zeros(len(names))
    for part, colour in enumerate(colours):
        ax.barh(
            rows, widths[:, part], left=left, height=0.66, color=colour, edgecolor="white", linewidth=0.8,
            hatch=hatches[part] or None,
        )  # fmt: skip
        left = left + widths[:, part]
    ax.set_yticks(rows, short_names(names))
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def bar_figure(names: Sequence[str], legend_rows: int) -> tuple[Figure, Axes]:
    """A figure with room for a bar a name, and below for a legend of so many rows."""
    foot = 0.62 + 0.2 * legend_rows
    fig = Figure(figsize=(9.6, 0.42 * max(1, len(names)) + foot + 0.15))
    height = fig.get_figheight()
    ax = fig.subplots()
    longest = max(map(len, short_names(names)), default=0)
    fig.subplots_adjust(left=0.03 + 0.0092 * longest, right=0.94, top=1 - 0.12 / height, bottom=foot / height)
    return fig, ax


def write_shares(ax: Axes, shares: np.ndarray, colours: Sequence[str]) -> None:
    """Per cent inside the bars of shares (names, parts) drawn on a scale of 100, where there is room."""
    for row, share in enumerate(shares):
        for part, value in enumerate(share):
            if value >= 0.045:
                red, green, blue = to_rgb(colours[part])
                dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.55
                ax.text(
                    100 * (share[:part].sum() + value / 2), row, f"{100 * value:.0f} %",
                    ha="center", va="center", fontsize=8, color="white" if dark else INK,
                )  # fmt: skip
