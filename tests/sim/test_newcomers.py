"""What a newcomer gets wrong in a scenario: said in one line, before anything is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from splitpoint.errors import ConfigError, DataError, GridError, UsageError
from splitpoint.sim.command import RunOptions, run_command
from splitpoint.sim.inputs import load_inputs
from splitpoint.sim.records import read_requests
from splitpoint.sim.run import alone_in
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

STATIC = {"kind": "static", "name": "s", "decision": {"split": 1}}
BASE: dict[str, Any] = {
    "deadline_s": 0.3,
    "requests": 8,
    "devices": [{"count": 2}],
    "channel": {"link": {"kind": "awgn"}},
    "policies": [STATIC],
}


def _scenario(folder: Path, **changes: Any) -> Path:
    """A scenario file; a change to None takes the field out."""
    path = folder / "mine.yaml"
    fields = {name: value for name, value in (BASE | changes).items() if value is not None}
    path.write_text(json.dumps(fields))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"deadline_s": None, "deadline_ms": 300}, r"unknown key 'deadline_ms': did you mean 'deadline_s'"),
        ({"devices": None, "device": [{}]}, "unknown key 'device': did you mean 'devices'"),
        ({"policies": [STATIC | {"decision": {"spilt": 1}}]}, r"decision\.spilt': did you mean 'split'"),
        ({"policies": [{"kind": "gredy"}]}, r"policies\.0: unknown kind 'gredy': did you mean 'greedy'"),
        ({"channel": {"link": {"kind": "raileigh"}}}, "unknown kind 'raileigh': did you mean 'rayleigh'"),
        ({"channel": {"link": {"mean_snr_db": 3}}}, r"channel\.link\.kind: Field required"),
        ({"deadline_s": float("inf")}, "deadline_s: .*finite"),
        ({"devices": [{"slack_s": float("inf")}]}, r"devices\.0\.slack_s: .*finite"),
        ({"devices": [{"arrivals": {"kind": "poisson", "rate_hz": float("inf")}}]}, "rate_hz: .*finite"),
        ({"devices": [{"count": 10**9}]}, r"devices\.0\.count: .*100000"),
        ({"requests": 10**30}, "requests: .*100000000"),
        ({"devices": "many"}, r"devices: Input should be a list .given: \"many\"."),
        ({"policies": []}, r"policies: List should have at least 1 item, not 0"),
        ({"channel": 3}, r"channel: Input should be a mapping of fields"),
    ],
)
def test_the_field_and_the_nearest_name_are_told(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_scenario(_scenario(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_missing_profile_is_measured_by_the_command_that_is_told(tmp_path: Path) -> None:
    setup = Setup(load_scenario(_scenario(tmp_path, profiles={"evaluation": "none.npz"})))
    with pytest.raises(DataError, match="`splitpoint profile clutter --split evaluation --data clutter`"):
        setup.evaluation  # noqa: B018 - read to be measured


@pytest.mark.parametrize("name", ["", "old/requests.parquet"])
def test_a_run_to_replay_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "requests.parquet").write_bytes(b"a folder is not read as all that lies in it")
    path = tmp_path / name
    with pytest.raises(DataError, match=f"^there is no file {path}: name a run's requests.parquet$"):
        read_requests(path)


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    options = RunOptions(
        str(_scenario(tmp_path)), *("profile", (), None, None, out, None, None, "auto", False)
    )
    with alone_in(out), pytest.raises(UsageError, match=f"another run writes to {out}: give another --out"):
        run_command(options)
    run_command(options)
    run_command(options)
    assert (out / "summary.json").exists()


def test_policies_that_were_done_are_kept_where_a_later_one_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    off_grid = {"kind": "static", "name": "off", "decision": {"split": 2, "keep": 0.77}}
    scenario, out = _scenario(tmp_path, policies=[STATIC, off_grid]), tmp_path / "out"
    options = RunOptions(str(scenario), *("profile", (), None, None, out, None, None, "auto", False))
    with pytest.raises(GridError, match=r"keep 0\.77"):
        run_command(options)
    assert "done before: s, in" in capsys.readouterr().err
    (summary,) = json.loads((out / "unfinished" / "summary.json").read_text())
    tables, _ = read_requests(out / "unfinished" / "requests.parquet")
    assert (summary["policy"], len(tables["s"]["sample"])) == ("s", 8)
    assert not (out / "summary.json").exists()


def test_dates_for_names_are_told_too(tmp_path: Path) -> None:
    path = _scenario(tmp_path)
    path.write_text(path.read_text()[:-1] + ', "coherence_s": {2026-11-22: 1}}')
    with pytest.raises(ConfigError, match=r"coherence_s: .*number .given: .*2026, 11, 22"):
        load_scenario(path)


def test_data_that_the_profile_was_not_measured_on_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photos" / "3").mkdir(parents=True)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "photos" / "3" / "x.png")
    setup = Setup(load_scenario(_scenario(tmp_path, data={"name": "photos"})))
    with pytest.raises(ConfigError, match=r"clutter\.evaluation\.npz was not measured on .*photos"):
        load_inputs(setup)
    measured = Setup(load_scenario(_scenario(tmp_path)))
    assert load_inputs(measured).labels.tolist() == measured.evaluation.labels.tolist()


def test_looked_up_answers_need_no_data_but_pictures_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SPLITPOINT_DATA", raising=False)
    options = RunOptions(
        str(_scenario(tmp_path, model="cifar10", data={"name": "cifar10"})),
        *("profile", (), None, None, tmp_path / "out", None, None, "auto", False),
    )
    run_command(options)
    said = capsys.readouterr().err
    assert "the report gets no pictures: the data set cifar10 is not built in" in said
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000


def test_data_that_are_not_there_are_told_before_the_run(tmp_path: Path) -> None:
    options = RunOptions(
        str(_scenario(tmp_path, data={"name": "calibration", "split": "calibration"})),
        *("profile", (), None, None, tmp_path / "out", None, None, "auto", False),
    )
    with pytest.raises(UsageError, match="unknown data set 'calibration'"):
        run_command(options)
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def make(*a, **k):\n    raise ValueError('first\\nsecond')\n", "ValueError: first second"),
        ("def make(deployment, calibration):\n    return None\n", "unexpected keyword argument 'start'"),
        ("raise OSError('gone')\n", "OSError: gone"),
    ],
)
def test_what_a_users_file_raises_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.py").write_text(text)
    own = {"kind": "custom", "name": "own", "path": "own.py", "factory": "make", "options": {"start": 1}}
    scenario = load_scenario(_scenario(tmp_path, policies=[own]))
    with pytest.raises(ConfigError, match=rf"policy 'own': .*own\.py: .*{said}") as caught:
        Setup(scenario).session(scenario.policies[0], 0)
    assert "\n" not in str(caught.value)
