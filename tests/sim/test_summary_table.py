"""The summary table fits a terminal and shows every figure whole."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from splitpoint.sim.policy_command import comparison_table
from splitpoint.sim.summary_table import summary_table

from .report_data import run


def shown(names: tuple[str, ...], width: int, count: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(summary_table(run(*names, count=count)["summaries"], width))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 110])
def test_nothing_is_cut_off(width: int) -> None:
    lines = shown(("local", "split", "greedy"), width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    assert all(any(word in line for line in lines) for word in ("lost", "degr.", "energy", "±"))


def test_what_was_lost_is_seen_in_long_runs_too() -> None:
    summaries = run("local", "greedy")["summaries"]
    long = {
        "latency_p99_s": 1.4263, "uplink_bytes_mean": 12_299.0, "device_energy_mean_j": 1.2347, "degraded": 149_907,
        "late": 51_603, "lost": 9_876,
    }  # fmt: skip
    console = Console(width=80, file=io.StringIO())
    console.print(summary_table([summary | long for summary in summaries], 80))
    assert isinstance(console.file, io.StringIO)
    rows = [line.split() for line in console.file.getvalue().splitlines() if "150k" in line]
    for row in rows:
        assert (row[-7:-4], row[-3:]) == (["1,426", "12k", "1,235"], ["150k", "52k", "9,876"])
    assert len(rows) == 2


def test_one_line_a_policy_where_there_is_room() -> None:
    lines = shown(("local", "split", "greedy"), 110)
    assert len(lines) == 2 + 1 + 3


def test_who_sees_the_future_is_marked() -> None:
    summaries = run("greedy", "oracle", "local")["summaries"]
    summaries[1] |= {"clairvoyant": True, "utility": 0.99}
    console = Console(width=110, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(summary_table(summaries, 110))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    best = [line for line in lines if "\x1b[1;32m" in line]
    assert [any(name in line for line in best) for name in ("oracle", "greedy", "local")].count(True) == 1
    assert not any("oracle" in line for line in best)
    assert any("clairvoyant" in line for line in lines)


def test_a_scenarios_name_is_no_markup() -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(comparison_table([], "mine [/old], 5 seeds", 80))
    assert isinstance(console.file, io.StringIO)
    assert "mine [/old], 5 seeds" in console.file.getvalue()


def test_names_are_not_markup() -> None:
    assert any("[red]x" in line for line in shown(("[red]x", "local"), 110))


@pytest.mark.parametrize("count", [0, 1])
def test_what_does_not_exist_is_a_dash(count: int) -> None:
    text = "\n".join(shown(("local",), 110, count))
    assert "nan" not in text
    assert ("–" in text) == (count == 0)


def test_the_best_utility_is_the_first_row_and_bold() -> None:
    summaries = run("local", "split", "greedy")["summaries"]
    table = summary_table(summaries, 110)
    assert [row.style for row in table.rows] == ["bold green", None, None]
    best = max(summaries, key=lambda s: s["utility"])["policy"]
    assert str(next(iter(table.columns[0].cells))) == best


@pytest.mark.parametrize("width", [80, 110])
def test_no_figure_of_a_comparison_is_cut_off(width: int) -> None:
    row = {
        "policy": "best-static-of-many", "utility": 0.7649, "utility_half": 0.0812, "share": -0.506,
        "regret": -0.0141, "regret_half": 0.0253, "accuracy": 0.978, "latency_p95_s": 1.2634,
        "uplink_bytes_mean": 12_458.0, "device_energy_mean_j": 1.2345, "worst_violation": 3.034,
        "clairvoyant": False, "feasible": False,
    }  # fmt: skip
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_table([row], "fading, 5 seeds of 1600 requests", width))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = text.split()
    for figure in (
        "0.7649",
        "±0.0812",
        "-0.506",
        "-0.0141",
        "±0.0253",
        "97.8",
        "1263",
        "12458",
        "1234",
        "303.4",
    ):
        assert figure in words
    assert "over budget" in text
