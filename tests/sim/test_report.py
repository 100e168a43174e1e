"""The report: one page that stands by itself, says everything, and survives odd runs."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from splitpoint.sim.metrics import summarise
from splitpoint.sim.report import KeptPatches
from splitpoint.sim.report_headline import by_utility

from .report_data import CARD, POLICIES, page, run, svgs

EVIL = '<script>alert("$x$")</script>'


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    faults = [{"kind": "kill", "at_s": 3.0, "for_s": 2.0}]
    arguments = run(*POLICIES, EVIL, faults=faults, description=EVIL)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8)
    picture = KeptPatches(
        image, 3, 5, CARD.classes, {0.5: np.arange(8), 0.25: np.arange(4)}, "chosen at random"
    )
    arguments["pictures"] = [picture, replace(picture, label=-1)]
    arguments["comparison"] = {
        "greedy: latency_p95_s": (0.0812, 0.0794, 0.0018, True),
        "greedy: bytes_differ": (3, 0, 3, False),
        "greedy: near_ties": (1, 0, 1, None),
    }
    arguments["command"] = f"splitpoint run '{EVIL}'"
    return page(tmp_path_factory.mktemp("report"), arguments)


def test_nothing_is_loaded_from_elsewhere(usual: str) -> None:
    class Loads(HTMLParser):
        found: list[str] = []  # noqa: RUF012 - filled once, by one parser

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "link", "iframe", "object")
            for name, value in attrs:
                assert not name.startswith("on")
                if name in ("src", "href", "xlink:href"):
                    self.found.append(value or "")

    parser = Loads()
    parser.feed(usual)
    assert any(address.startswith("data:image/png") for address in parser.found)
    assert all(address.startswith(("data:", "#")) for address in parser.found)
    without_names = re.sub(r'xmlns(:xlink)?="[^"]*"', "", usual)
    assert not re.findall(r"https?://|@import|url\((?!#)", without_names)


def test_names_are_escaped_in_page_and_figures(usual: str) -> None:
    assert "<script" not in usual
    assert usual.count("&lt;script&gt;") >= 5


def test_every_figure_is_well_formed_and_every_reference_in_it_has_its_own_target(usual: str) -> None:
    figures = svgs(usual)
    assert len(figures) == 7
    everywhere: set[str] = set()
    for figure in figures:
        ElementTree.fromstring(figure)
        ids = set(re.findall(r'\bid="([^"]+)"', figure))
        assert set(re.findall(r'(?:xlink:href="|url\()#([\w.-]+)', figure)) <= ids
        assert not ids & everywhere
        everywhere |= ids


def test_every_policy_is_named_in_table_and_figures(usual: str) -> None:
    for name in POLICIES:
        assert re.search(rf'<th scope="row">{name}\b', usual)
        assert sum(f">{name}</text>" in figure for figure in svgs(usual)) >= 5


def test_on_paper_nothing_is_scrolled_out_of_sight(usual: str) -> None:
    printed = re.search(r"@media print \{(.*?)\n\}", usual, flags=re.DOTALL)
    assert printed is not None
    assert re.search(r"\.scroll \{[^}]*overflow: visible", printed[1])


def test_head_says_what_was_run(usual: str) -> None:
    for said in (
        "made up",
        "virtual time",
        "seed 7",
        "200 ms",
        "Rayleigh fading",
        "Doppler 2 Hz",
        "killed at 3 s",
    ):
        assert said in usual


def test_data_of_ones_own_have_no_split(usual: str, tmp_path: Path) -> None:
    assert "<dd>clutter, evaluation split</dd>" in usual
    assert "<dd>photos/mine</dd>" in page(tmp_path, run("local", count=1, data={"name": "photos/mine"}))


def test_the_best_utility_comes_first_and_alone_is_marked(usual: str, tmp_path: Path) -> None:
    arguments = run(*POLICIES)
    best = max(arguments["summaries"], key=lambda s: s["utility"])["policy"]
    text = page(tmp_path, arguments)
    assert re.findall(r'<th scope="row">(\w+)[^<]*<span class="badge">', text) == [best]
    order = [text.index(f'<th scope="row">{s["policy"]}') for s in by_utility(arguments["summaries"])]
    assert order == sorted(order)


@pytest.mark.parametrize("over", [("greedy",), ("greedy", "local", "split")])
def test_who_is_over_budget_is_marked_and_never_the_best(tmp_path: Path, over: tuple[str, ...]) -> None:
    arguments = run("greedy", "local", "split", budgets={"energy_j": 0.15, "airtime_s": 0.02})
    for summary in arguments["summaries"]:
        if summary["policy"] in over:
            line = {"budget": 0.15, "mean": 0.2, "violation": 1 / 3}
            summary |= {"feasible": False, "budgets": {"energy_j": line}, "utility": 0.9}
    text = page(tmp_path, arguments)
    assert text.count("over budget</span>") == len(over)
    assert text.count('"badge">best<') == (len(over) < 3)
    assert ("of those within their budgets" in text) == (len(over) < 3)
    assert ("highest utility, all over budget, 0.900" in text) == (len(over) == 3)
    assert "those over a budget last" in text
    assert "energy 150 mJ, airtime 20 ms; means over each device" in text


def test_who_sees_the_future_is_marked_and_no_rival(tmp_path: Path) -> None:
    arguments = run("greedy", "local", "oracle")
    for summary in arguments["summaries"]:
        if summary["policy"] == "oracle":
            summary |= {"clairvoyant": True, "utility": 0.95}
    text = page(tmp_path, arguments)
    assert re.findall(r'<th scope="row">(\w+)[^<]*<span class="badge">(\w+)', text)[0] == (
        "oracle",
        "clairvoyant",
    )
    best = max(arguments["summaries"][:2], key=lambda s: s["utility"])["policy"]
    assert re.search(rf'<th scope="row">{best} <span class="badge">best<', text)
    assert f"“{best}” has the highest utility" in text
    assert "Clairvoyant, and so no rivals: “oracle” 0.950." in text


def test_a_fault_behind_the_end_of_a_run_is_not_in_the_legend(tmp_path: Path) -> None:
    for at_s, drawn in ((3.0, True), (300.0, False)):
        faults = [{"kind": "kill", "at_s": at_s, "for_s": 2.0}]
        assert ("fault of the server" in page(tmp_path, run("greedy", faults=faults))) == drawn


def test_comparison_is_shown_with_units_and_verdicts(usual: str) -> None:
    rows = re.findall(r'<tr><th scope="row">(greedy: .*?)</tr>', usual, flags=re.DOTALL)
    texts = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in rows]
    assert texts == [
        "greedy: latency p95 81.2 ms 79.4 ms 1.8 ms yes",
        "greedy: bytes differ 3 0 3 no",
        "greedy: near ties 1 0 1 –",
    ]


def test_pictures_say_answer_and_truth_where_it_is_known(usual: str) -> None:
    answers = re.findall(r"<p>Answer: <strong>5</strong>(.*?)</p>", usual, flags=re.DOTALL)
    assert ["in truth 3" in answer for answer in answers] == [True, False]
    assert usual.count("data:image/png") == 6


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("policies", [("greedy",), ("local", "split")])
def test_tiny_runs_make_a_page(tmp_path: Path, policies: tuple[str, ...], count: int) -> None:
    text = page(tmp_path, run(*policies, count=count))
    assert ">nan<" not in text.lower()
    assert len(svgs(text)) >= 6


def test_no_policy_at_all_makes_a_page(tmp_path: Path) -> None:
    arguments = run("local")
    arguments |= {"summaries": [], "tables": {}}
    assert "no policy was run" in page(tmp_path, arguments)


def test_curves_that_leave_the_scale_are_not_said_to_lose_requests(tmp_path: Path) -> None:
    arguments = run("local")
    assert "below 100 % lost requests" in page(tmp_path, arguments)
    arguments["tables"]["local"]["latency_s"][:20] = 3.0
    text = page(tmp_path, arguments)
    assert "below 100 % lost requests" not in text
    assert "20 answers took longer than the scale shows: there curves end below 100 %." in text


def test_a_rate_is_in_the_legend_where_it_is_drawn(tmp_path: Path) -> None:
    arguments = run("local", "split")
    arguments["tables"]["split"]["rate_estimate_bps"][:] = np.nan
    assert "estimated rate of the link" in page(tmp_path, run("local"))
    arguments["tables"]["local"]["rate_estimate_bps"][:] = np.nan
    assert "estimated rate of the link" not in page(tmp_path, arguments)


def test_a_budget_that_is_kept_is_not_among_those_exceeded(tmp_path: Path) -> None:
    arguments = run("local", budgets={"energy_j": 0.15, "airtime_s": 0.02})
    lines = {
        name: {"budget": 1.0, "mean": 1.0, "violation": over}
        for name, over in (("energy_j", 0.3), ("airtime_s", 2e-3))
    }
    arguments["summaries"][0] |= {"feasible": False, "budgets": lines}
    assert "behind all that are not: energy by 30 %." in page(tmp_path, arguments)


def test_lost_requests_are_pointed_out(tmp_path: Path) -> None:
    arguments = run("local", "split")
    made = arguments["scenario"]
    arguments["summaries"][1] = summarise("split", "live", 83, arguments["tables"]["split"], made.weights())
    text = page(tmp_path, arguments)
    assert "3 requests were lost" in text
    assert '<td class="warn">3</td>' in text


def test_unknown_estimates_everywhere(tmp_path: Path) -> None:
    arguments = run("greedy")
    arguments["tables"]["greedy"]["rate_estimate_bps"][:] = np.nan
    assert ">unknown</text>" in page(tmp_path, arguments)


def test_names_in_other_scripts_and_long_ones(tmp_path: Path) -> None:
    names = (
        "漢字",
        "a-rather-long-name-of-a-policy-with-its-budget-of-20mJ-and-more-words-to-come",
        "$a$",
        "$",
    )
    text = page(tmp_path, run(*names))
    for name in names:
        assert f'<th scope="row">{name}' in text


def test_a_name_that_looks_like_a_reference_stays_as_it_is(tmp_path: Path) -> None:
    assert '>url(#a) id="</text>' in page(tmp_path, run('url(#a) id="'))


def test_what_a_quorum_decided_and_saved_is_drawn(tmp_path: Path) -> None:
    arguments = run("local", "quorum-of-3", count=200) | {"learner_macs": 4_000_000}
    text = page(tmp_path, arguments)
    columns = arguments["tables"]["quorum-of-3"]
    sent = ~columns["local"]
    saved = 100 * (1 - columns["quorum_macs"][sent].mean() / 4_000_000)
    assert "How the quorum decided" in text
    assert f"by policy: quorum-of-3: {saved:.0f} %" in text
    assert "gate 3, 2 opinions" in text
    assert "quorum, gate 3<" in text
    assert "server, exit" not in text
    assert "How the quorum decided" not in page(tmp_path, run("local", "split"))


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    assert page(tmp_path, run("local", "greedy")) == page(tmp_path / "again", run("local", "greedy"))


def test_many_requests_are_thinned_and_it_is_said(tmp_path: Path) -> None:
    text = page(tmp_path, run("split", "greedy", count=200_000))
    assert len(text.encode()) < 3_000_000
    assert "Of 400,000 requests" in text
