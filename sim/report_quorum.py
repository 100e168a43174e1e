"""How a quorum decided: at which gate and by how many opinions, and what work was saved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .records import Table
from .report_bars import bar_figure, stacked_bars, write_shares
from .report_style import PLACES, legend_below, ramp

__all__ = ["decided_by_quorum", "quorum_figure"]


def decided_by_quorum(tables: Mapping[str, Table]) -> dict[str, Table]:
    """Of each policy that had any, the requests that a quorum answered."""
    found: dict[str, Table] = {}
    for name, columns in tables.items():
        chosen = (columns["votes"] > 0) & ~columns["local"]
        if chosen.any():
            found[name] = {field: values[chosen] for field, values in columns.items()}
    return found


def quorum_figure(tables: Mapping[str, Table], gates: int, all_macs: int) -> tuple[Figure, str]:
    """Shares of the answers by gate and opinions, for tables of `decided_by_quorum`; and what was saved, in words.

    all_macs  MACs of all learners that can be asked, to their last gates
    """
    most = max(int(columns["votes"].max()) for columns in tables.values())
    kinds = [(gate, votes) for gate in range(gates) for votes in range(1, most + 1)]
    shares = np.array(
        [
            [((columns["exit"] == gate) & (columns["votes"] == votes)).mean() for gate, votes in kinds]
            for columns in tables.values()
        ]
    )
    shown = [place for place in range(len(kinds)) if shares[:, place].any()]
    colours = ramp(PLACES[1].light, PLACES[1].dark, max(2, len(shown)))[: len(shown)]
    labels = [
        f"gate {kinds[place][0] + 1}, {kinds[place][1]} opinion{'s' if kinds[place][1] > 1 else ''}"
        for place in shown
    ]
    fig, ax = bar_figure(list(tables), -(-len(shown) // 4))
    stacked_bars(ax, list(tables), 100 * shares[:, shown], colours, [""] * len(shown))
    write_shares(ax, shares[:, shown], colours)
    ax.set_xlim(0, 100)
    ax.set_xlabel("answers of the quorum, %")
    legend_below(fig, [Patch(facecolor=c, label=n) for c, n in zip(colours, labels, strict=True)], columns=4)
    parts = [
        f"{name}: {100 * (1 - columns['quorum_macs'].mean() / all_macs):.0f} %"
        for name, columns in tables.items()
    ]
    return fig, f"Of the work of all learners to their last gates was saved, by policy: {', '.join(parts)}."
