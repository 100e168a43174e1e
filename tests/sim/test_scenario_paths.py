"""Paths in a scenario file: meant from the file's folder, and said clearly where nothing is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from splitpoint.channel.config import build_link
from splitpoint.errors import ConfigError
from splitpoint.sim.scenario import BUILT_IN, load_scenario


def _write(folder: Path, **changes: Any) -> Path:
    data = yaml.safe_load((BUILT_IN / "quickstart.yaml").read_text())
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(data | changes))
    return file


def _trace(path: str | Path) -> dict[str, Any]:
    return {"link": {"kind": "snr_trace", "path": str(path)}}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario folder that is not the working folder, with a trace in it."""
    folder, here = tmp_path / "scenarios", tmp_path / "here"
    (folder / "traces").mkdir(parents=True)
    here.mkdir()
    (folder / "traces" / "walk.csv").write_text("snr_db\n10\n12\n")
    monkeypatch.chdir(here)
    return folder


def test_a_trace_is_found_from_the_scenarios_folder(elsewhere: Path) -> None:
    link = load_scenario(_write(elsewhere, channel=_trace("traces/walk.csv"))).channel.link
    assert build_link(link, 0, 0).state(0.0).snr_db == pytest.approx(10.0, abs=0.2)


def test_the_working_folder_does_not_count(elsewhere: Path) -> None:
    Path("only-here.csv").write_text("snr_db\n1\n2\n")
    with pytest.raises(
        ConfigError, match=r"channel\.link\.path: there is no file .*only-here\.csv"
    ) as caught:
        load_scenario(_write(elsewhere, channel=_trace("only-here.csv")))
    assert "\n" not in str(caught.value)


def test_an_absolute_path_stays_what_it_is(elsewhere: Path, tmp_path: Path) -> None:
    far = tmp_path / "far.csv"
    far.write_text("snr_db\n3\n4\n")
    channel = load_scenario(_write(elsewhere, channel=_trace(far))).channel
    assert channel.link.path == str(far)


def test_a_missing_trace_of_a_device_group_is_named(elsewhere: Path) -> None:
    devices = [{"count": 1}, {"count": 1, "link": _trace("none.csv")["link"]}]
    with pytest.raises(ConfigError, match=r"devices\.1\.link\.path: there is no file"):
        load_scenario(_write(elsewhere, devices=devices))


def test_policies_and_profiles_are_meant_from_there_too(elsewhere: Path) -> None:
    policies = [{"kind": "replay", "name": "again", "path": "earlier/requests.parquet"}]
    scenario = load_scenario(_write(elsewhere, policies=policies, profiles={"evaluation": "mine.npz"}))
    assert scenario.policies[0].path == elsewhere / "earlier" / "requests.parquet"
    assert scenario.profiles["evaluation"] == elsewhere / "mine.npz"


def test_an_own_model_and_own_data_are_found_from_the_scenarios_folder(elsewhere: Path) -> None:
    (elsewhere / "photos").mkdir()
    scenario = load_scenario(_write(elsewhere, model="mine.safetensors", data={"name": "photos"}))
    assert scenario.model == str(elsewhere / "mine.safetensors")
    assert scenario.data.name == str(elsewhere / "photos")
    named = load_scenario(_write(elsewhere, model="clutter", data={"name": "cifar10"}))
    assert (named.model, named.data.name) == ("clutter", "cifar10")


def test_an_own_pool_is_found_from_there_too(elsewhere: Path) -> None:
    quorum = {"pool": "pools/mine", "learners": [{"name": "a", "place": "b"}]}
    assert load_scenario(_write(elsewhere, quorum=quorum)).quorum.pool == str(elsewhere / "pools" / "mine")
    quorum["pool"] = "cifar10"
    assert load_scenario(_write(elsewhere, quorum=quorum)).quorum.pool == "cifar10"


def test_own_data_and_an_own_pool_in_the_working_folder_do_not_count(elsewhere: Path) -> None:
    Path("photos").mkdir()
    scenario = load_scenario(_write(elsewhere, data={"name": "photos"}))
    assert scenario.data.name == str(elsewhere / "photos")
    quorum = {"pool": "photos", "learners": [{"name": "a", "place": "b"}]}
    assert load_scenario(_write(elsewhere, quorum=quorum)).quorum.pool == str(elsewhere / "photos")


def test_what_differs_in_training_is_found_as_the_rest_is(elsewhere: Path) -> None:
    training = {
        "profiles": {"calibration": "mine.npz"}, "model": "mine.safetensors", "data": {"name": "photos/mine"},
        "policies": [{"kind": "trained", "path": "mine.safetensors"}],
    }  # fmt: skip
    scenario = load_scenario(_write(elsewhere, training=training)).for_training({})
    assert scenario.profiles["calibration"] == elsewhere / "mine.npz"
    assert scenario.model == str(elsewhere / "mine.safetensors")
    assert scenario.data.name == str(elsewhere / "photos" / "mine")
    assert scenario.policies[0].path == elsewhere / "mine.safetensors"
