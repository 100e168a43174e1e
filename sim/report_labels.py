"""Names beside the points of a plot, so that they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

__all__ = ["place_labels"]

_NEAR = 7.0


def place_labels(
    ax: Axes,
    points: np.ndarray,
    names: Sequence[str],
    bars: np.ndarray,
    colours: Sequence[str],
    size: float = 8.5,
) -> None:
    """Write each name near its point; a thin line leads from it where it had to move away.

    points: (P, 2) data coordinates; bars: (P, 4) half-lengths left, right, down, up of the error bars.
    Limits and margins of the plot must stand already. Greedy: the crowded points choose first; error bars
    may be crossed.
    """
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    pixel = figure.dpi / 72.0
    room = ax.get_window_extent(renderer)
    at = ax.transData.transform(points)
    taken = [Bbox.from_extents(x - 5 * pixel, y - 5 * pixel, x + 5 * pixel, y + 5 * pixel) for x, y in at]
    crossed = _bar_boxes(ax, points, bars, pixel)
    spread = np.linalg.norm(at[:, None] - at[None], axis=2)
    for i in np.argsort(
        np.partition(spread, min(1, len(at) - 1), axis=1)[:, min(1, len(at) - 1)], kind="stable"
    ):
        text = ax.annotate(
            names[i], points[i], xytext=(0, 0), textcoords="offset points", fontsize=size, color=colours[i],
            ha="center", va="center", zorder=6, annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )  # fmt: skip
        extent = text.get_window_extent(renderer)
        width, height = extent.width + 2 * pixel, extent.height + 1 * pixel
        best, offset, box = np.inf, np.zeros(2), extent
        for trial, step in enumerate(_offsets(width, height, pixel)):
            x, y = at[i] + step
            tried = Bbox.from_extents(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            covered = sum(_overlap(tried, other) for other in taken) + 3 * (
                width * height - _overlap(tried, room)
            )
            cost = covered + 0.8 * sum(_overlap(tried, bar) for bar in crossed) + 2.0 * pixel**2 * trial
            if cost < best - 1e-9:
                best, offset, box = cost, step, tried
        text.set_position(tuple(offset / pixel))
        taken.append(box)
        gap = np.maximum(np.abs(offset) - np.array([width, height]) / 2, 0.0)
        if np.hypot(*gap) > 2.2 * _NEAR * pixel:
            end = np.clip(at[i], box.min, box.max)
            line = ax.transData.inverted().transform(np.array([at[i], end]))
            ax.plot(
                line[:, 0],
                line[:, 1],
                color=colours[i],
                linewidth=0.6,
                alpha=0.7,
                zorder=2,
                scalex=False,
                scaley=False,
            )


def _offsets(width: float, height: float, pixel: float) -> list[np.ndarray]:
    """Where a label's centre may lie from its point, the better ones first."""
    found = []
    for ring in (1.0, 2.0, 3.5, 5.0, 7.0):
        gap = _NEAR * ring * pixel
        across, up = width / 2 + gap, height / 2 + gap
        side = width / 2 + 0.5 * gap
        found += [
            (across, 0), (side, up), (side, -up), (0, up), (0, -up), (-across, 0), (-side, up), (-side, -up),
        ]  # fmt: skip
    return [np.array(step, float) for step in found]


def _bar_boxes(ax: Axes, points: np.ndarray, bars: np.ndarray, pixel: float) -> list[Bbox]:
    boxes = []
    for (x, y), (left, right, down, up) in zip(points, bars, strict=True):
        for low, high in (((x - left, y), (x + right, y)), ((x, y - down), (x, y + up))):
            (x0, y0), (x1, y1) = ax.transData.transform([low, high])
            boxes.append(Bbox.from_extents(x0 - pixel, y0 - pixel, x1 + pixel, y1 + pixel))
    return boxes


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))
