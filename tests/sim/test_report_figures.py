"""What the figures of the report draw, name and leave out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splitpoint.sim.inputs import load_inputs
from splitpoint.sim.pictures import kept_patches
from splitpoint.sim.report import overview_figure
from splitpoint.sim.report_choices import choices_figure
from splitpoint.sim.report_headline import by_utility
from splitpoint.sim.report_lanes import lane_figure
from splitpoint.sim.report_patches import draw_kept
from splitpoint.sim.report_plots import PARTS, latency_parts
from splitpoint.sim.report_style import drawing, short_names
from splitpoint.sim.scenario import Scenario
from splitpoint.sim.sections import Fault
from splitpoint.sim.setup import Setup

from .conftest import changed
from .report_data import CARD, POLICIES, columns, page, run, scenario, svgs


def test_a_fault_names_its_process() -> None:
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
