"""The report: one page that stands by itself, says everything, and survives odd runs."""

from __future__ import annotations

import errno
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from splitpoint.errors import DataError, MissingExtra
from splitpoint.sim.inputs import load_inputs
from splitpoint.sim.metrics import summarise
from splitpoint.sim.pictures import kept_patches
from splitpoint.sim.report import KeptPatches, overview_figure, write_report
from splitpoint.sim.report_choices import choices_figure
from splitpoint.sim.report_facts import facts, quantity
from splitpoint.sim.report_headline import by_utility
from splitpoint.sim.report_lanes import lane_figure
from splitpoint.sim.report_patches import draw_kept
from splitpoint.sim.report_plots import PARTS, latency_parts
from splitpoint.sim.report_style import drawing, short_names
from splitpoint.sim.run import Run, write_run
from splitpoint.sim.scenario import Scenario
from splitpoint.sim.sections import Fault
from splitpoint.sim.setup import Setup

from .conftest import changed
from .report_data import CARD, columns, run, scenario

POLICIES = ("local", "split", "greedy")
EVIL = '<script>alert("$x$")</script>'


def page(path: Path, arguments: dict[str, Any]) -> str:
    write_report(path / "report.html", **arguments)
    return (path / "report.html").read_text(encoding="utf-8")


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


def svgs(text: str) -> list[str]:
    return re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)


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


def test_a_fault_names_its_process(tmp_path: Path) -> None:
    with drawing():
        figure, _ = lane_figure({"split": columns("split", 80)}, _with_process(), seed=1)
    said = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert said == ["learner-2 frozen", "server killed"]


def _with_process() -> Scenario:
    faults = [
        {"kind": "freeze", "process": "learner-2", "at_s": 2.0, "for_s": 1.0},
        {"kind": "kill", "at_s": 5.0, "for_s": 1.0},
    ]
    return scenario("split").model_copy(update={"faults": tuple(Fault(**fault) for fault in faults)})


@pytest.mark.parametrize("most", [3e5, 9.99e5, 9.999e5, 4.2e8])
def test_rates_are_written_without_powers_of_ten(most: float) -> None:
    tables = run("greedy", count=200)["tables"]
    tables["greedy"] = {**tables["greedy"], "rate_estimate_bps": np.linspace(0.1 * most, most, 200)}
    with drawing():
        fig = choices_figure(tables, ["greedy"], CARD.depth)
    labels = [label.get_text() for label in fig.axes[0].get_xticklabels()]
    unit = 1e6 if most >= 1e6 else 1e3
    ends = [float(end.replace(",", "")) for label in labels for end in label.split("–")]
    assert not any("e" in label for label in labels)
    np.testing.assert_allclose([ends[0], ends[-1]], [0.1 * most / unit, most / unit], rtol=0.05)


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


def test_long_names_that_differ_in_the_middle_are_told_apart_in_every_figure(tmp_path: Path) -> None:
    names = [
        f"split2-keep0.25-dims{dims}-bits{bits}-exit0.95-of-greedy" for dims in (24, 48) for bits in (2, 4)
    ]
    arguments = run(*names)
    for limit in (20, 24, 30):
        short = short_names(names, limit)
        assert len(set(short)) == len(names)
        assert max(map(len, short)) <= limit
    figures = svgs(page(tmp_path, arguments))
    for name in short_names(names):
        assert sum(f">{name}</text>" in figure for figure in figures) == 5
    assert short_names(["a", "local", "a-name-longer-than-twenty-four-letters"])[:2] == ["a", "local"]


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


def test_thinning_keeps_rare_kinds() -> None:
    part = dict(columns("split", 50_000))
    part["degraded"] = np.zeros(50_000, bool)
    part["degraded"][[5, 500]] = True
    part["local"] = part["degraded"]
    figure, remark = lane_figure({"split": part}, scenario("split"), seed=1)
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "X"]
    assert [len(line.get_xdata()) for line in crosses] == [2]
    assert "Of 50,000 requests 6,000 are drawn" in remark


def test_parts_of_latency_add_up_to_it() -> None:
    part = columns("split", 500)
    assert latency_parts(part).sum() == pytest.approx(part["latency_s"].mean())
    assert part["degraded"].any()
    waited_s = np.where(part["degraded"], part["latency_s"] - 0.002 - part["head_s"], 0.0)
    assert latency_parts(part)[-1] == pytest.approx(waited_s.mean())


def test_who_is_computed_together_waits_for_the_others_not_for_codec_and_rpc() -> None:
    part = dict(columns("split", 4))
    sent_s, overhead_s = 0.03, 0.005
    part |= {
        "device": np.zeros(4, np.int64), "arrival_s": np.full(4, 1.0), "start_s": np.array([1.0, 1.0, 1.0, 1.5]),
        "head_s": np.array([0.04, 0.04, 0.02, 0.04]), "degraded": np.zeros(4, bool),
        "local": np.array([False, False, True, False]), "offloaded": np.array([True, True, False, True]),
    }  # fmt: skip
    trip_s = np.where(part["local"], 0.0, 3 * sent_s + overhead_s)
    for name in ("uplink_s", "server_s", "downlink_s"):
        part[name] = np.where(part["local"], np.nan, sent_s)
    # The three of one burst: two blocks of each, then two more of those that are not sure.
    part["latency_s"] = np.array([0.1, 0.1, 0.06, 0.54]) + trip_s
    parts = dict(zip([name for name, _, _ in PARTS], latency_parts(part), strict=True))
    assert parts["computing others of its burst"] == pytest.approx((0.06 + 0.06 + 0.04 + 0.0) / 4)
    assert parts["rest: codec and RPC"] == pytest.approx(3 * overhead_s / 4)
    assert sum(parts.values()) == pytest.approx(part["latency_s"].mean())


def test_kept_patches_stay_and_dropped_ones_fade() -> None:
    image = np.arange(32 * 32, dtype=np.uint32).reshape(32, 32, 1).astype(np.uint8)
    drawn = draw_kept(image, np.array([5]), (4, 4))
    factor = drawn.shape[0] // 32
    edge = drawn[8 * factor, 8 * factor : 16 * factor]
    assert (edge == edge[0]).all()
    assert np.ptp(edge[0]) > 100
    centres = drawn[factor // 2 :: factor, factor // 2 :: factor]
    assert (centres[9:15, 9:15] == image[9:15, 9:15]).all()
    outside = np.ones((32, 32), bool)
    outside[8:16, 8:16] = False
    assert np.ptp(centres[outside].astype(int)) < 0.3 * np.ptp(image.astype(int))


def test_pictures_say_whose_answer_they_show() -> None:
    setup = Setup(changed())
    table = {"sample": np.array([3]), "cut": np.array([2]), "offloaded": np.array([True])}
    (picture,) = kept_patches(setup, {"split": table}, load_inputs(setup))
    assert picture.caption == "sample 3, cut after block 2; the answer is that of the whole network"
    assert {keep: len(kept) for keep, kept in picture.kept.items()} == {0.5: 32, 0.25: 16, 0.125: 8}


def test_colour_images_of_any_size_are_drawn() -> None:
    for side in (16, 224, 1000):
        image = np.full((side, side, 3), 90, np.uint8)
        drawn = draw_kept(image, np.array([0]), (2, 2))
        assert drawn.shape[2] == 3
        assert 150 <= drawn.shape[0] <= 400


def test_overview_shows_the_best_and_a_sending_policy(tmp_path: Path) -> None:
    arguments = run(*POLICIES)
    figure = overview_figure(arguments["summaries"], arguments["tables"], arguments["scenario"])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert by_utility(arguments["summaries"])[0]["policy"] in titles
    assert len([title for title in titles if title]) == 2
    figure.savefig(tmp_path / "overview.png")
    assert (tmp_path / "overview.png").stat().st_size > 10_000


def test_overview_of_one_policy() -> None:
    arguments = run("local", count=3)
    figure = overview_figure(arguments["summaries"], arguments["tables"], arguments["scenario"])
    assert [title for ax in figure.axes if (title := ax.get_title(loc="left"))] == ["local"]


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot write the report .*missing"):
        write_report(tmp_path / "missing" / "report.html", **run("local", count=2))


def test_what_breaks_off_leaves_the_files_of_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = run("local")
    made = Run(*(arguments[name] for name in ("scenario", "engine", "summaries", "tables")))
    write_run(tmp_path, made)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {"requests.parquet", "summary.json"}

    def full(merged: Any, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    made.summaries[0]["policy"] = "another"
    with pytest.raises(DataError, match=r"requests.parquet: No space left on device"):
        write_run(tmp_path, made)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_missing_libraries_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"splitpoint\[sim\]"):
        write_report(tmp_path / "report.html", **run("local", count=2))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("round_trip_s", 0.01, "round trip 10 ms"),
        ("bandwidth_hz", 1e6, "bandwidth 1 MHz"),
        ("mean_snr_db", 12.0, "mean SNR 12 dB"),
        ("macs_per_s", 2.5e8, "250 M MAC/s"),
        ("rate_scale", 0.3, "rate scale 0.3"),
        ("interpolate", False, "no interpolate"),
        ("windows", ((3.0, 4.5), (6.0, 7.0)), "3 to 4.5 s, 6 to 7 s"),
    ],
)
def test_configured_values_are_said_with_their_units(name: str, value: Any, words: str) -> None:
    assert quantity(name, value) == words


def test_the_facts_tell_how_payloads_are_coded_where_that_was_chosen() -> None:
    assert "payloads" not in dict(facts(scenario(), "profile", CARD, 0, 100))
    chosen = scenario(coder="ans", image_format="webp:60")
    assert dict(facts(chosen, "profile", CARD, 0, 100))["payloads"] == (
        "planes entropy-coded, raw inputs as webp of quality 60"
    )


def test_the_facts_tell_of_inputs_that_drift() -> None:
    drifting = scenario(data={"hard_share": [[0.0, 0.0], [33.0, 1.0]]})
    assert dict(facts(drifting, "profile", CARD, 0, 100))["data"] == (
        "clutter, evaluation split; hard inputs: 0 % from 0 s, 100 % from 33 s"
    )
