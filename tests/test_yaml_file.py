"""Files of YAML: what is read, and one line for what is not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.channel.emulator_process import main as emulate
from splitpoint.errors import ConfigError
from splitpoint.server.quorum_config import load_quorum
from splitpoint.sim.scenario import BUILT_IN, load_scenario
from splitpoint.yaml_file import read_yaml


def _file(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' is given twice, in lines 1 and 3"),
        ("a:\n  b: 1\n  c: 2\n  b: 1\n", "'b' is given twice, in lines 2 and 4"),
        ("a:\n  - {b: 1}\n  - {b: 1, 'b': 2}\n", "'b' is given twice, in lines 3 and 3"),
        ('{"a": {"b": 1,\n "b": 2}}', "'b' is given twice, in lines 1 and 2"),
        ("1: a\n0x1: b\n", "'0x1' is given twice, in lines 1 and 2"),
        ("a: &x {b: 1}\nc: {<<: *x, d: 1, d: 2}\n", "'d' is given twice, in lines 2 and 2"),
        ("a: &x\n  b: *x\n  b: 1\n", "'b' is given twice, in lines 2 and 3"),
        ("a: [1\n", "is not YAML"),
        ("a: &x [*x]\n", "is not YAML: Circular reference"),
        ("a: &x {b: *x}\n", "is not YAML: Circular reference"),
        ("a: !!bool zz\n", "is not YAML"),
        ("a: !!int ''\n", "is not YAML"),
        ("a: !!timestamp zz\n", "is not YAML"),
        ("[" * 3000, "is not YAML"),
        ("a: 2026-13-41\n", "is not YAML"),
        ("a: 1\n---\nb: 1\n", "is not YAML"),
        ("", "is empty: it must hold a mapping of fields"),
        ("# all of it\n", "is empty"),
        ("- a\n", "must hold a mapping of fields, not a list"),
        ("time_s,snr_db\n0,5\n", "must hold a mapping of fields, not a single value"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: {c: 1}\nb: {c: 2}\n", {"a": {"c": 1}, "b": {"c": 2}}),
        ("a: &x {c: 1, d: 1}\nb: {<<: *x, c: 2}\n", {"a": {"c": 1, "d": 1}, "b": {"c": 2, "d": 1}}),
        ("a: &x {c: 1}\nb: [*x, *x]\n", {"a": {"c": 1}, "b": [{"c": 1}, {"c": 1}]}),
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
    ],
)
def test_equal_keys_of_different_mappings_are_none_of_its_business(
    tmp_path: Path, text: str, data: object
) -> None:
    assert read_yaml(_file(tmp_path, text)) == data


@given(keys=st.lists(st.sampled_from("abcdef"), max_size=6))
def test_a_key_is_refused_exactly_where_it_comes_again(
    keys: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _file(tmp_path_factory.getbasetemp(), "z: 0\n" + "".join(f"{key}: 1\n" for key in keys))
    if len(set(keys)) == len(keys):
        assert list(read_yaml(path)) == ["z", *keys]
    else:
        with pytest.raises(ConfigError, match="is given twice"):
            read_yaml(path)


def test_scenarios_quorums_and_channels_are_read_so(tmp_path: Path) -> None:
    scenario = _file(tmp_path, (BUILT_IN / "quickstart.yaml").read_text() + "deadline_s: 5.0\n")
    with pytest.raises(ConfigError, match=r"'deadline_s' is given twice, in lines 5 and \d+$"):
        load_scenario(scenario)
    with pytest.raises(ConfigError, match="'alpha' is given twice, in lines 1 and 3"):
        load_quorum(_file(tmp_path, "alpha: 0.1\nlearners: [{model: a}]\nalpha: 0.2\n"))
    channel = _file(tmp_path, "links: []\nlinks: []\n")
    with pytest.raises(ConfigError, match="'links' is given twice, in lines 1 and 2"):
        emulate(channel, "127.0.0.1:1", host="127.0.0.1", port=0, seed=0)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read scenario .*nowhere\.yaml: No such file"):
        read_yaml(tmp_path / "nowhere.yaml", "scenario")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match=r"cannot read .*latin\.yaml"):
        read_yaml(tmp_path / "latin.yaml")
