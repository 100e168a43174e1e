"""The coordinator's file: what it may say, and how it is told what is wrong."""

import json
import re
from pathlib import Path

import pytest

from splitpoint.errors import ConfigError
from splitpoint.server.quorum_config import LearnerPlace, QuorumConfig, load_quorum

GOOD = """
learners:
  - {model: small, on_device: true}
  - {model: a, address: "127.0.0.1:5001"}
  - {model: b.safetensors}
alpha: 0.01
parallel: true
"""


def test_yaml_and_json_say_the_same(tmp_path):
    (tmp_path / "q.yaml").write_text(GOOD)
    (tmp_path / "b.safetensors").touch()
    config = load_quorum(tmp_path / "q.yaml")
    assert config.learners[0] == LearnerPlace(model="small", on_device=True)
    assert config.learners[1].address == "127.0.0.1:5001"
    assert config.learners[2].model == str(tmp_path / "b.safetensors")
    assert (config.alpha, config.parallel, config.order) == (0.01, True, "cost")
    (tmp_path / "q.json").write_text(json.dumps(config.model_dump(mode="json")))
    assert load_quorum(str(tmp_path / "q.json")) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learners: []", "learners: "),
        ("alpha: 0.1", "learners: Field required"),
        ("learners: [{model: a}]\nalfa: 1", "unknown key 'alfa': did you mean 'alpha'?"),
        ("learners: [{model: a, adress: x}]", "did you mean 'address'?"),
        ("learners: [{model: a}, {model: a, address: 'h:1'}]", "'a' is listed twice"),
        ("learners: [{model: a, on_device: true}]", "at least one must run on a server"),
        ("learners: [{model: a, on_device: true, address: 'h:1'}]", "has no address"),
        ("learners: [{model: a, on_device: true}, {model: b}]\nmodel: c", "model: "),
        ("learners: [{model: a, address: 192.0.2.1}]", "learners.0: address: '192.0.2.1' is not HOST:PORT"),
        ("learners: [{model: a}]\ntls: {rot: a.pem}", "did you mean 'root'?"),
        ("learners: [{model: a}]\npatience_s: .inf", "patience_s: "),
        ("learners: [{model: a}]\nstatistic: median", "statistic: "),
        ("learners: [", "is not YAML"),
        ("- a", "must hold a mapping"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(tmp_path, text, said):
    path = tmp_path / "quorum.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_quorum(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the quorum file"):
        load_quorum(tmp_path / "none.yaml")


def test_the_devices_network_is_named_or_found():
    places = ({"model": "a"}, {"model": "b", "on_device": True})
    assert QuorumConfig(learners=places).device_model == "b"
    assert QuorumConfig(learners=places[:1]).device_model == "a"
    assert QuorumConfig(learners=places[:1], model="c").device_model == "c"


def test_the_page_s_example_is_one_and_every_field_is_told(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "quorum.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", text, re.S)
    (tmp_path / "quorum.yaml").write_text(example[1])
    config = load_quorum(tmp_path / "quorum.yaml")
    assert config.device_model == "cifar10"
    assert {place.address for place in config.learners if not place.on_device} == {
        f"127.0.0.1:{port}" for port in (50061, 50062, 50063)
    }
    told = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    assert {*QuorumConfig.model_fields, *LearnerPlace.model_fields} - told == set()
