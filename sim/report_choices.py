"""What adaptive policies chose: shares of their Decisions against the estimated rate of the link."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .records import Table
from .report_style import PLACES, shorten

__all__ = ["adaptive_policies", "choices_figure"]

_SHOWN = 8
_BINS = 7
_FIELDS = ("split", "keep", "dims", "bits", "symbols")
_OTHER = "#cfcfcf"


def _decisions(columns: Table) -> np.ndarray:
    """What each request's Decision sends and from where, float64 (requests, 5)."""
    return np.stack([columns[name].astype(float) for name in _FIELDS], axis=1)


def adaptive_policies(tables: Mapping[str, Table]) -> list[str]:
    """Policies that did not always decide alike; a guard's replacements do not count."""
    own = {name: _decisions(columns)[~columns["policy_replaced"]] for name, columns in tables.items()}
    return [name for name, decisions in own.items() if (decisions != decisions[:1]).any()]


def _kinds(decisions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows and how often each occurs. Column by column: numpy's own sort of whole rows is slow."""
    code = np.zeros(len(decisions), np.int64)
    for column in decisions.T:
        values, index = np.unique(column, return_inverse=True)
        code = np.unique(code * len(values) + index, return_inverse=True)[1]
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    return decisions[first], counts


def _label(decision: np.ndarray, depth: int) -> str:
    split, keep, dims, bits, symbols = decision
    if split == 0:
        return "send the input itself"
    if split >= depth:
        return "stay on the device"
    size = (
        f"{symbols:g} symbols"
        if symbols > 0
        else f"{'all' if dims == 0 else f'{dims:.0f}'} dims, {bits:.0f} bits"
    )
    return f"split {split:.0f}, keep {100 * keep:.3g} %, {size}"


def choices_figure(tables: Mapping[str, Table], names: list[str], depth: int) -> Figure:
    """One panel a policy of `names`: stacked shares in bins of the estimated rate with equal request counts.

    The most frequent Decisions are named, the rest is one part; exit thresholds are left out.
    """
    decisions = {name: _decisions(tables[name]) for name in names}
    for values in decisions.values():
        # Without a payload of tokens, how tokens would be sent makes no difference.
        values[(values[:, 0] == 0) | (values[:, 0] >= depth), 1:] = 0.0
    kinds, counts = _kinds(np.concatenate(list(decisions.values())))
    shown = kinds[np.argsort(-counts, kind="stable")[:_SHOWN]]
    # From all on the device over ever larger payloads to the raw input.
    size = (
        shown[:, 1] * np.where(shown[:, 2] == 0, 1e6, shown[:, 2]) * shown[:, 3] + shown[:, 1] * shown[:, 4]
    )
    shown = shown[np.lexsort((size, -shown[:, 0]))]
    colours = _colours(shown, depth)
    edges, unit = _edges(tables, names)

    fig = Figure(figsize=(9.6, 1.75 * len(names) + 0.6))
    height = fig.get_figheight()
    axes = fig.subplots(len(names), 1, squeeze=False)[:, 0]
    fig.subplots_adjust(left=0.07, right=0.68, top=1 - 0.4 / height, bottom=0.5 / height, hspace=0.55)
    for ax, name in zip(axes, names, strict=True):
        rates = tables[name]["rate_estimate_bps"]
        known = np.isfinite(rates)
        bins = np.where(
            known,
            1
            + np.clip(
                np.searchsorted(edges, np.where(known, rates, 0.0), side="right") - 1, 0, len(edges) - 2
            ),
            0,
        )
        match = (decisions[name][:, None, :] == shown[None]).all(axis=2)
        kind = np.where(match.any(axis=1), match.argmax(axis=1), len(shown))
        table = np.zeros((max(len(edges), 1), len(shown) + 1))
        np.add.at(table, (bins, kind), 1)
        total = table.sum(axis=1)
        share = 100 * table / np.maximum(total, 1)[:, None]
        rows = [row for row in range(len(table)) if row or total[0]]
        bottom = np.zeros(len(rows))
        for part in range(len(shown) + 1):
            ax.bar(
                range(len(rows)),
                share[rows, part],
                bottom=bottom,
                width=0.86,
                color=colours[part],
                edgecolor="white",
                linewidth=0.6,
            )
            bottom += share[rows, part]
        for place, row in enumerate(rows):
            ax.text(
                place, 102, f"{int(total[row]):,}", ha="center", va="bottom", fontsize=7.5, color="#767676"
            )
        ax.set_xticks(
            range(len(rows)),
            ["unknown" if row == 0 else _span(edges[row - 1], edges[row], unit) for row in rows],
        )
        ax.set_ylim(0, 100)
        ax.set_yticks([0, 50, 100])
        ax.set_ylabel("requests, %")
        ax.grid(visible=False, axis="x")
        ax.tick_params(axis="x", length=0)
        ax.set_title(shorten(name, 60), loc="left", fontweight="bold", pad=14)
    axes[-1].set_xlabel(
        f"estimated rate of the link when it decided, {'Mbit/s' if unit == 1e6 else 'kbit/s'}"
    )
    labels = [_label(decision, depth) for decision in shown]
    handles = [Patch(facecolor=colour, label=label) for colour, label in zip(colours, labels, strict=False)]
    if len(kinds) > len(shown):
        handles.append(Patch(facecolor=_OTHER, label=f"{len(kinds) - len(shown)} others"))
    fig.legend(
        handles=handles[::-1],
        loc="center left",
        bbox_to_anchor=(0.69, 0.55),
        handlelength=1.4,
        labelspacing=0.6,
    )
    return fig


def _colours(shown: np.ndarray, depth: int) -> list[str]:
    """Blue for staying, orange for the raw input, between them viridis; grey for the rest."""
    middle = int(((shown[:, 0] > 0) & (shown[:, 0] < depth)).sum())
    between = iter(colormaps["viridis"](np.linspace(0.2, 0.95, max(1, middle))))
    colours = []
    for split in shown[:, 0]:
        if split == 0:
            colours.append(PLACES[1].colour)
        elif split >= depth:
            colours.append(PLACES[0].dark)
        else:
            colours.append(to_hex(next(between)))
    return [*colours, _OTHER]


def _edges(tables: Mapping[str, Table], names: list[str]) -> tuple[np.ndarray, float]:
    """Edges of the bins in bits a second (empty when no rate is known), and the unit to write them in."""
    rates = np.concatenate([tables[name]["rate_estimate_bps"] for name in names])
    rates = rates[np.isfinite(rates)]
    if not len(rates):
        return np.empty(0), 1e6
    edges = np.unique(np.quantile(rates, np.linspace(0, 1, _BINS + 1)))
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0]])
    return edges, 1e6 if edges[-1] >= 1e6 else 1e3


def _span(low: float, high: float, unit: float) -> str:
    ends = _rate(low / unit), _rate(high / unit)
    return ends[0] if ends[0] == ends[1] else "–".join(ends)


def _rate(value: float) -> str:
    # Two digits; from 100 on whole numbers, which `g` would write as powers of ten.
    return f"{value:.2g}" if value < 99.5 else f"{value:,.0f}"
