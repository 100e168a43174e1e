"""The report of a run: one HTML file that needs nothing beside it, neither network nor script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtra
from ..models.card import ModelCard
from ..whole_file import whole_file
from .records import Table
from .report_comparison import comparison_rows
from .report_facts import facts
from .report_glossary import GLOSSARY
from .report_headline import by_utility, headline, headline_rows
from .report_patches import KeptPatches, picture_rows
from .scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KeptPatches", "overview_figure", "write_report"]

_TEMPLATE = "report.html.j2"


def write_report(
    path: Path,
    *,
    scenario: Scenario,
    engine: str,
    summaries: list[dict[str, Any]],
    tables: Mapping[str, Table],
    card: ModelCard,
    seed: int,
    pictures: Sequence[KeptPatches] = (),
    comparison: Mapping[str, Sequence[Any]] | None = None,
    command: str = "",
    learner_macs: int = 0,
) -> None:
    """Write the report of a run to `path`; equal arguments give equal bytes.

    summaries: objects of `summarise`, one a policy, in the order of the run; tables: requests by policy.
    comparison: live against virtual, metric -> (live, virtual, difference, within its bound or None);
    metrics whose names end in `_s` are seconds, texts are shown as they are.
    learner_macs: of all learners of a quorum that can be asked, to their last gates.
    Raises MissingExtra without matplotlib and jinja2, DataError where `path` cannot be written.
    """
    _require()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from .. import __version__

    ordered = {str(s["policy"]): tables[s["policy"]] for s in by_utility(summaries) if s["policy"] in tables}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(_TEMPLATE).render(
        title=f"{scenario.name} · splitpoint",
        scenario=scenario,
        outcome=headline(summaries),
        rows=headline_rows(summaries),
        facts=facts(scenario, engine, card, seed, max((s["requests"] for s in summaries), default=0)),
        command=command,
        figures=_figures(scenario, summaries, ordered, card, seed, learner_macs),
        pictures=picture_rows(list(pictures), card),
        comparison=comparison_rows(comparison or {}),
        glossary=GLOSSARY,
        version=__version__,
    )
    with whole_file(path, "report", make_folder=False) as part:
        part.write_text(text, encoding="utf-8")


def overview_figure(
    summaries: Sequence[Mapping[str, Any]], tables: Mapping[str, Table], scenario: Scenario
) -> Figure:
    """A run in one picture: two policies over time, and accuracy against bytes and latency.

    The two are the one with the highest utility and, of the others, the one that sends most requests.
    Raises MissingExtra without matplotlib.
    """
    _require()
    from .report_overview import draw_overview

    return draw_overview(summaries, tables, scenario)


def _require() -> None:
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtra("the HTML report", "sim") from None


def _figures(
    scenario: Scenario,
    summaries: Sequence[Mapping[str, Any]],
    tables: Mapping[str, Table],
    card: ModelCard,
    seed: int,
    learner_macs: int,
) -> list[dict[str, Any]]:
    """Title, caption and SVG texts of every figure, in the order of the page."""
    from markupsafe import Markup

    from .report_accuracy import accuracy_figure
    from .report_choices import adaptive_policies, choices_figure
    from .report_lanes import lane_figure
    from .report_plots import breakdown_figure, cdf_figure, places_figure
    from .report_quorum import decided_by_quorum, quorum_figure
    from .report_style import drawing, svg

    found: list[dict[str, Any]] = []

    def add(title: str, caption: str, *figures: Figure) -> None:
        key = f"f{len(found) + 1}"
        plots = [Markup(svg(figure, f"{key}{part}")) for part, figure in zip("abc", figures, strict=False)]
        found.append({"title": title, "caption": caption, "plots": plots})

    ranked = [s for s in by_utility(summaries) if s["policy"] in tables]
    issued = {str(s["policy"]): int(s["requests"]) for s in ranked}
    with drawing():
        lanes, remark = lane_figure(tables, scenario, seed)
        add(
            "What happened over time",
            "Each mark is one request, as high as it took to answer: look at what a policy does when the "
            f"link is slow (low grey) or the server is away, and for marks above the deadline. {remark}",
            lanes,
        )
        add(
            "Accuracy against cost",
            "Further left and higher is better: few bytes or little waiting for many correct answers. "
            "Bars are 95 % intervals.",
            accuracy_figure(ranked, tables, "bytes"),
            accuracy_figure(ranked, tables, "p95"),
        )
        add(
            "Where requests were answered",
            "Blue was answered on the device, the darker the later the exit; orange on the server; "
            "black is the fallback.",
            places_figure(tables, card.exits),
        )
        if voted := decided_by_quorum(tables):
            bars, remark = quorum_figure(voted, len(card.exits), learner_macs)
            add(
                "How the quorum decided",
                "The paler a part, the earlier the gate at which enough learners agreed, and the less they had to "
                f"compute. {remark}",
                bars,
            )
        curves, remark = cdf_figure(tables, issued, scenario.deadline_s)
        add(
            "How long answers took",
            "A curve further left is faster; where it crosses the deadline is the share answered in time. "
            f"{remark}",
            curves,
        )
        if names := adaptive_policies(tables):
            add(
                "What the adaptive policies chose",
                "Look whether more is sent (towards orange) when the link is fast, and more stays on the "
                "device (blue) when it is slow; the number above a bar counts its requests.",
                choices_figure(tables, names, card.depth),
            )
        add(
            "Where the time went",
            "The longest part of a bar is what a better policy would have to shorten.",
            breakdown_figure(tables),
        )
    return found
