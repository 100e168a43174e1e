"""What benchmarks write beside their figures is what was run."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from splitpoint.errors import UsageError
from splitpoint.models.data import Dataset, load_data
from splitpoint.models.measure import images_id

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_a_command_tells_every_option_and_no_path_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        "--cut",
        "1",
        "--data-dir",
        "/home/a b/data",
        "--rounds=3",
        "--peer=/opt/python",
        "--policy",
        "a b",
    ]
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/bits.py", *given])
    assert import_module("command_line").command_line() == (
        "python benchmarks/bits.py --cut 1 --data-dir DIR --rounds=3 --peer PYTHON --policy 'a b'"
    )


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def wrong() -> None:
        raise UsageError("unknown model 'cluter'")

    with pytest.raises(SystemExit) as stopped:
        import_module("command_line").run(wrong)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: unknown model 'cluter'\n"


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, whose runs say which file the trained policy was read from."""
    module = import_module("policies")

    def evaluated(_: Any, policies: Any, seeds: Any, known: dict[str, Any]) -> SimpleNamespace:
        path = next(str(policy.path) for policy in policies if policy.name == "trained")
        return SimpleNamespace(rows=[], runs={"trained": [{"path": path}], "random": []} | known)

    monkeypatch.setattr(module, "evaluate_policies", evaluated)
    monkeypatch.setattr(module, "beats", lambda _: {})
    return module


def test_a_trained_policy_is_not_taken_for_another_one(policies: ModuleType, tmp_path: Path) -> None:
    def trained(folder: Path | None) -> str:
        options = argparse.Namespace(
            requests=10, seeds=2, replies_only=False, policies=folder, train=False, traces=None,
            out=tmp_path / "policies.json",
        )  # fmt: skip
        policies.one("fading", options)
        found: str = json.loads((tmp_path / "policies-fading.json").read_text())["runs"]["trained"][0]["path"]
        return found

    with pytest.raises(UsageError, match="no trained policy"):
        trained(tmp_path)
    (tmp_path / "fading.safetensors").write_bytes(b"another")
    for folder in (None, tmp_path, None):
        assert (trained(folder) == str(tmp_path / "fading.safetensors")) == (folder is not None)


def test_profiles_of_other_data_are_measured_anew(tmp_path: Path) -> None:
    given = argparse.Namespace(
        model="clutter", cut=[1], keep=[0.25], refine_keep=[0.5], dims=[12], work=tmp_path
    )
    for seed in range(2):
        images = np.random.default_rng(seed).integers(0, 256, (2, 64, 64, 1), dtype=np.uint8)
        data = Dataset(images, np.arange(2), tuple("0123456789"))
        found = import_module("bits").profiles(given, {"calibration": data, "evaluation": data})
        assert {profile.images_id for profile in found.values()} == {images_id(data)}


def test_the_bytes_beside_the_codecs_times_are_the_mean_of_all_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec_time = import_module("codec_time")
    two = load_data("clutter", "calibration").some(2)
    given = argparse.Namespace(
        model="clutter", data=None, data_dir=None, cut=2, keep=0.25, dims=48, bits=4, samples=2, rounds=1
    )

    def nbytes(*places: int) -> float:
        data = Dataset(two.images[list(places)], two.labels[list(places)], two.classes)
        monkeypatch.setattr(codec_time, "load_data", lambda *_, **__: data)
        found: float = codec_time.measured(given, "ans")["bytes"]
        return found

    one, other = nbytes(0), nbytes(1)
    assert one != other
    assert nbytes(0, 1) == (one + other) / 2


def test_split_learning_starts_from_weights_of_its_own_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = import_module("split_learning_runs")
    data = Dataset(np.zeros((4, 32, 32, 3), np.uint8), np.arange(4), runs.CLASSES)
    monkeypatch.setattr(runs, "load_data", lambda *_, **__: data)
    monkeypatch.setattr(runs.Start, "_train", lambda start: start.model.touch())
    common: dict[str, Any] = {
        "images": 2, "evaluation": 0, "learning_rate": 1e-3, "patch": 8, "dim": 48, "depth": 4, "cut": 2,
        "start_images": 0, "start_epochs": 1,
    }  # fmt: skip
    files = {
        runs.Start(runs.Setting(heads=heads, batch=batch, **common), tmp_path, None, "cpu").model
        for heads, batch in ((3, 32), (4, 32), (3, 64))
    }
    assert len(files) == 3
