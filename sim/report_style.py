"""How the report's figures look, and how they become SVG that stands by itself in a page.

Colours: Okabe and Ito's for the places of an answer, Paul Tol's muted ones for policies; both keep apart for
colour-blind eyes, and shapes or dashes repeat what the colours say.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

__all__ = [
    "DEADLINE",
    "FALLBACK",
    "INK",
    "PLACES",
    "POLICY_DASHES",
    "POLICY_MARKERS",
    "SOFT",
    "Place",
    "blank",
    "darker",
    "drawing",
    "legend_below",
    "policy_colour",
    "ramp",
    "short_names",
    "shorten",
    "svg",
]

INK = "#222222"
SOFT = "#767676"
DEADLINE = "#c2185b"


class Place(NamedTuple):
    """Where an answer came from, and how it is drawn."""

    label: str
    colour: str
    marker: str
    light: str
    dark: str


PLACES = (
    Place("answered on the device", "#0072b2", "o", "#a6d3ee", "#00466e"),
    Place("answered by the server", "#e08a00", "^", "#ffd591", "#b86200"),
    Place("fallback: best answer so far", INK, "X", "#bbbbbb", INK),
)
FALLBACK = 2

_POLICIES = (
    "#332288",
    "#cc6677",
    "#117733",
    "#44aa99",
    "#882255",
    "#999933",
    "#aa4499",
    "#88ccee",
    "#ddcc77",
)
POLICY_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")
POLICY_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)))

_RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#9a9a9a",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 9,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "splitpoint",
    "text.color": INK,
    # A policy may be called "$a$".
    "text.parse_math": False,
    "xtick.color": "#444444",
    "xtick.labelsize": 8.5,
    "ytick.color": "#444444",
    "ytick.labelsize": 8.5,
}


_BEFORE = 4
"""Letters that names share, shown before those in which they differ."""


def policy_colour(index: int) -> str:
    """Colour of the policy with this place in the summary."""
    return _POLICIES[index % len(_POLICIES)]


@contextmanager
def drawing() -> Iterator[None]:
    """The style, for whatever is drawn inside. Names in any script are fine: the reader's fonts show them."""
    with mpl.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def darker(colour: str) -> str:
    """The colour for text on white: pale ones need more contrast there than as a line."""
    red, green, blue = to_rgb(colour)
    return to_hex((0.6 * red, 0.6 * green, 0.6 * blue)) if red + green + blue > 1.2 else colour


def ramp(light: str, dark: str, count: int) -> list[str]:
    """`count` colours from light to dark; the middle for one."""
    steps = np.linspace(0.0, 1.0, count) if count > 1 else [0.5]
    low, high = np.array(to_rgb(light)), np.array(to_rgb(dark))
    return [to_hex(tuple((low + step * (high - low)).tolist())) for step in steps]


def shorten(name: str, limit: int = 24) -> str:
    """A name for a narrow place: the middle is left out, since names tend to differ at their ends."""
    if len(name) <= limit:
        return name
    tail = (limit - 1) // 2
    return f"{name[: limit - 1 - tail]}…{name[-tail:]}"


def short_names(names: Sequence[str], limit: int = 24) -> list[str]:
    """Each name as `shorten` leaves it; of those that would look alike, the part in which they differ."""
    short = [shorten(name, limit) for name in names]
    for look in {name for name in short if short.count(name) > 1}:
        places = [place for place, name in enumerate(short) if name == look]
        alike = [names[place] for place in places]
        begin = _in_common(alike)
        end = _in_common([name[begin:][::-1] for name in alike])
        for place, name in zip(places, alike, strict=True):
            part = name[max(0, begin - _BEFORE) : len(name) - end]
            short[place] = f"…{shorten(part, limit - 2)}…" if end else f"…{shorten(part, limit - 1)}"
    return short


def _in_common(names: Sequence[str]) -> int:
    """How many letters all of them begin with."""
    letters = enumerate(zip(*names, strict=False))
    return next((place for place, those in letters if len(set(those)) > 1), min(map(len, names)))


def blank(ax: Axes, text: str) -> None:
    """Say in place of a plot why there is none."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=SOFT)


def legend_below(fig: Figure, handles: Sequence[Any], columns: int, centre: float = 0.5) -> None:
    """One legend at the foot of the figure around `centre` (0 left, 1 right), filled row by row."""
    rows = -(-len(handles) // columns)
    by_column = [
        handles[r * columns + c]
        for c in range(columns)
        for r in range(rows)
        if r * columns + c < len(handles)
    ]
    fig.legend(
        handles=by_column, loc="lower center", ncols=columns,
        handlelength=2.2, columnspacing=1.8, handletextpad=0.6,
        bbox_to_anchor=(centre, 0.0), borderaxespad=0.2,
    )  # fmt: skip


def svg(fig: Figure, key: str) -> str:
    """The figure as an <svg> element. `key` keeps its ids apart from those of others on the page.

    Text stays text, so that it can be searched and shows in the reader's font where ours lacks a glyph.
    The same figure gives the same text at any time.
    """
    out = io.StringIO()
    with drawing():
        fig.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, count=1, flags=re.DOTALL)
    # In tags only: a policy may be called "url(#a)".
    text = re.sub(
        r"<[^>]*>", lambda tag: re.sub(r'(\bid="|(?:xlink:href="|url\()#)', rf"\g<1>{key}-", tag[0]), text
    )
    # The width comes from the page; the view box holds the proportions.
    return re.sub(r'<svg (.*?)\bwidth="[^"]*" height="[^"]*"|<svg ', r"<svg \1", text, count=1)
