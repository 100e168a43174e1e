"""The command line: results on standard output, and every mistake as one line with its exit code."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import save_file

from splitpoint import __version__
from splitpoint.cli import main
from splitpoint.sim.scenario import BUILT_IN

QUICK = ["run", "quickstart", "--engine", "profile", "--requests", "40"]
FIELDS = {
    "policy", "engine", "requests", "answered", "lost", "accuracy", "utility", "latency_p50_s", "latency_p95_s",
    "latency_p99_s", "uplink_bytes_mean", "device_energy_mean_j", "local_fraction", "degraded", "late",
}  # fmt: skip


def _runs(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0


def _fails(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def _scenario(tmp_path: Path, **changes: Any) -> str:
    data = yaml.safe_load((BUILT_IN / "quickstart.yaml").read_text()) | changes
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_a_run_writes_its_files_and_prints_the_summary(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _runs([*QUICK, "--policy", "split", "greedy", "--out", str(tmp_path), "--json"])
    captured = capsys.readouterr()
    # In a file a policy has one line.
    assert [line.split()[0] for line in captured.err.splitlines() if "±" in line] == ["greedy", "split"]
    printed = json.loads(captured.out)
    assert [row["policy"] for row in printed] == ["split", "greedy"]
    assert all(row.keys() >= FIELDS for row in printed)
    assert all(row["answered"] == row["requests"] == 40 and row["lost"] == 0 for row in printed)
    assert json.loads((tmp_path / "summary.json").read_text()) == printed
    assert "<html" in (tmp_path / "report.html").read_text()


def test_a_run_leaves_no_comparison_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text("{}")
    _runs([*QUICK, "--policy", "split", "--out", str(tmp_path)])
    assert not (tmp_path / "comparison.json").exists()


def test_names_of_scenarios_and_folders_are_no_markup(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "[/run] of :smile:"
    _runs(
        ["run", _scenario(tmp_path, name="mine [/old]"), *QUICK[2:], "--policy", "local", "--out", str(out)]
    )
    said = capsys.readouterr().err
    assert "mine [/old], profile" in said
    assert f"report: {out / 'report.html'}" in said


def test_equal_seeds_write_equal_files(tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        _runs([*QUICK, "--policy", "split", "--seed", seed, "--out", str(tmp_path / name)])
        files.append((tmp_path / name / "requests.parquet").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_scenarios_and_their_schema_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _runs(["run", "--list"])
    assert "quickstart" in capsys.readouterr().out
    _runs(["run", "--schema"])
    assert "deadline_s" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "quickstart", "--server"],
        ["device", "--images", ".", "--server"],
        ["channel", "--config", "none.yaml", "--upstream"],
        ["train", "clutter", "--split-learning", "--server"],
    ],
)
def test_an_address_without_a_port_is_none(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert "'127.0.0.1' is not HOST:PORT" in _fails(capsys, [*arguments, "127.0.0.1"], 2)


def test_a_network_and_an_own_model_are_not_trained_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    said = _fails(capsys, ["train", "cifar10", "--model", "mine.safetensors", "--data-dir", "photos"], 2)
    assert "both a network, 'cifar10', and --model mine.safetensors" in said


def test_own_data_without_a_model_do_not_train_clutter(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["--data-dir", "photos", "--epochs", "2", "--out", str(tmp_path)]
    assert "name the network" in _fails(capsys, ["train", *given], 2)


def test_unknown_names_are_met_with_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "did you mean 'quickstart'?" in _fails(capsys, ["run", "quickstrat"], 2)
    out = ["--out", str(tmp_path)]
    assert "did you mean 'greedy'?" in _fails(capsys, [*QUICK, "--policy", "gredy", *out], 2)
    assert "clutter" in _fails(capsys, ["evaluate", "cluter"], 2)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"requets": 3}, "did you mean 'requests'?"),
        ({"deadline_s": -1}, "deadline_s"),
        ({"devices": [{"cout": 1}]}, "did you mean 'count'?"),
        ({"policies": [{"kind": "static", "name": "a", "decision": {"split": 99}}]}, "depth, 6"),
        ({"policies": [{"kind": "static", "name": "a", "decision": {"split": 1, "keep": 2}}]}, "keep"),
    ],
)
def test_a_broken_scenario_names_the_field(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    assert text in _fails(capsys, ["run", _scenario(tmp_path, **changes), "--out", str(tmp_path / "out")], 3)


def test_a_decision_off_the_grid_names_the_grid(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    policies = [{"kind": "static", "name": "a", "decision": {"split": 1, "keep": 0.3}}]
    arguments = [
        "run",
        _scenario(tmp_path, policies=policies),
        "--engine",
        "profile",
        "--out",
        str(tmp_path / "out"),
    ]
    assert "0.5, 0.25, 0.125" in _fails(capsys, arguments, 6)


def test_files_that_cannot_be_read_or_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _fails(capsys, ["run", str(tmp_path / "none.yaml")], 3)
    (tmp_path / "text.yaml").write_text("a: [")
    _fails(capsys, ["run", str(tmp_path / "text.yaml")], 3)
    _fails(capsys, [*QUICK, "--out", str(tmp_path / "text.yaml" / "below")], 4)
    _fails(capsys, ["serve", "--train", "--train-dir", str(tmp_path / "text.yaml" / "below")], 4)
    _fails(capsys, ["evaluate", str(tmp_path / "none.safetensors")], 4)
    _fails(capsys, ["evaluate", "clutter", "--data", str(tmp_path / "none.parquet")], 4)
    for nowhere in ("nowhere", "127.0.0.1:99999", "127.0.0.1:²"):
        assert "is not HOST:PORT" in _fails(capsys, ["serve", "--listen", nowhere], 2)
    # A pair of options has no one option to be named.
    assert "error: certificate and key" in _fails(capsys, ["serve", "--certificate", "a.pem"], 2)
    # What would be without effect is not passed over.
    assert "--pace-macs-per-s" in _fails(capsys, ["serve", "--pace-base-s", "0.1"], 2)
    assert "--policy reckons" in _fails(capsys, ["serve", "--policy-scenario", "fading"], 2)


def test_what_the_system_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr("splitpoint.sim.scenario.built_in_scenarios", full)
    assert _fails(capsys, ["run", "--list"], 1) == "error: somewhere: No space left on device"


def test_options_that_do_not_go_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _fails(capsys, [*QUICK, "--compare", "tensor", "--out", str(tmp_path)], 2)
    _fails(capsys, [*QUICK, "--server", "127.0.0.1:1", "--out", str(tmp_path)], 2)


@pytest.mark.parametrize(
    "command",
    [
        ["tables"],
        ["train-codec", "--out", "codec.safetensors"],
        ["train-jscc", "--steps", "1"],
        ["train-gates", "--out", "gates.safetensors"],
    ],
)
def test_a_network_learns_from_its_own_set_by_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPLITPOINT_DATA", raising=False)
    assert "data set cifar10" in _fails(capsys, [*command, "cifar10"], 4)
    for name in ("mine.safetensors", "clutter-mine.safetensors"):
        save_file({}, tmp_path / name)
        assert "--data" in _fails(capsys, [*command, name], 2)
    assert "unknown model 'cluter'; did you mean 'clutter'" in _fails(capsys, [*command, "cluter"], 2)
    assert "no model file" in _fails(capsys, [*command, "none.safetensors"], 4)


@pytest.mark.parametrize(
    "command",
    [["train"], ["train-jscc", "clutter"], ["train-gates", "clutter", "--out", "gates.safetensors"]],
)
def test_a_seed_that_torch_does_not_take_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--seed" in _fails(capsys, [*command, "--seed", str(1 << 64)], 2)


def test_policies_of_one_name_are_not_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert "'split'" in _fails(capsys, [*QUICK, "--policy", "split", "local", "split", *out], 2)
    replay = f"replay:{tmp_path}/requests.parquet"
    for twice in (["split", f"{replay}:split"], [replay, f"{replay}.old"]):
        assert "twice" in _fails(capsys, [*QUICK, "--policy", *twice, *out], 2)


def test_a_live_run_of_oracles_alone_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    scenario = _scenario(tmp_path, policies=[{"kind": "oracle"}])
    assert "clairvoyant" in _fails(capsys, ["run", scenario, "--out", str(tmp_path / "out")], 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--list"], "quickstart"),
        (["run", "--schema"], '"deadline_s"'),
        (["run", "quickstart", "--engine", "profile"], "error: running a scenario needs the extra 'sim'"),
        (["policy", "evaluate", "mine.safetensors"], "error: comparing policies needs the extra 'sim'"),
    ],
)
def test_without_the_extra_scenarios_are_listed_and_runs_name_it(arguments: list[str], said: str) -> None:
    program = """
import sys
for name in ("filelock", "gymnasium", "jinja2", "matplotlib", "pyarrow", "simpy", "torch"):
    sys.modules[name] = None  # as if it were not installed
from splitpoint.cli import main
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", program, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == (5 if said.startswith("error") else 0)
    assert said in (run.stderr if run.returncode else run.stdout)
    assert "Traceback" not in run.stderr


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    _runs(["--version"])
    assert capsys.readouterr().out.strip() == __version__
