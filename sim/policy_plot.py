"""Utility of every policy with its interval, and what it costs, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import MissingExtra

__all__ = ["plot_policies"]


def plot_policies(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Bars of the mean utility with 95 % intervals, the best on top; over budget hatched, clairvoyant grey."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("plots", "sim") from None
    fig = Figure(figsize=(8.0, 0.36 * len(rows) + 1.2), layout="constrained")
    ax = fig.subplots()
    for place, row in enumerate(rows):
        colour = "#9e9e9e" if row["clairvoyant"] else "#0072b2" if row["feasible"] else "#e69f00"
        ax.barh(
            place, row["utility"], xerr=row["utility_half"], color=colour, hatch=None if row["feasible"] else "///",
            edgecolor="white",
        )  # fmt: skip
        text = f" share {row['share']:.2f}" + ("" if row["feasible"] else ", over budget")
        ax.annotate(text, (max(row["utility"], 0.0) + row["utility_half"], place), va="center", fontsize=8)
    ax.set_yticks(range(len(rows)), [str(row["policy"]) for row in rows])
    ax.invert_yaxis()
    ax.margins(x=0.25)
    ax.set_xlabel("mean utility of a request, 95 % interval over seeds")
    ax.set_title(title)
    fig.savefig(path, dpi=130)
