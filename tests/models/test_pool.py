"""Training of a pool on tiny data: killed and resumed, in each regime, behind a shared head; and its measuring."""

import fcntl
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from splitpoint.cli import app
from splitpoint.errors import UsageError
from splitpoint.models import pool
from splitpoint.models.conv_card import ConvCard, ConvStage
from splitpoint.models.data import Dataset
from splitpoint.models.learner import load_learner
from splitpoint.models.learner_file import read_learner_card
from splitpoint.models.learner_run import LearnerRun
from splitpoint.models.pool import learner_data, train_learner
from splitpoint.models.pool_config import LearnerConfig
from splitpoint.models.pool_measure import measure_pool
from splitpoint.models.pool_profile import PoolProfile
from splitpoint.models.preprocess import normalise
from splitpoint.models.shared_head import SharedHead, tail_configs
from splitpoint.models.train_config import network_config
from splitpoint.models.training_data import StoredData

from .conftest import tiny_card, tiny_network, write_cifar10
from .test_learner import conv_card, conv_learner

CARD = ConvCard.model_validate(
    conv_card().model_dump() | {"stages": [ConvStage(width=width).model_dump() for width in (5, 6, 8)]}
)


def _config(**changes: object) -> LearnerConfig:
    values = {"card": CARD, "epochs": 3, "batch": 20, "share": 0.5, "small_share": 0.4, "rate": 0.05}
    return LearnerConfig.model_validate(values | changes)


def _load(split: str) -> Dataset:
    """Images whose class is a tint: a few steps learn it."""
    rng = np.random.default_rng(len(split))
    labels = np.arange(120) % 4
    tint = np.array([[120, 0, 0], [0, 120, 0], [0, 0, 120], [60, 60, 60]])[labels][:, None, None]
    images = (rng.integers(0, 130, (120, 16, 24, 3)) + tint).astype(np.uint8)
    return Dataset(images, labels, ("a", "b", "c", "d"))


class _Killed(Exception):  # noqa: N818
    pass


def test_a_killed_learner_goes_on_to_the_same_weights_and_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(regime="mixed")
    whole = train_learner(config, learner_data(config, _load), tmp_path / "whole", "command")
    keep: Callable[[LearnerRun], None] = LearnerRun.save

    def save_and_die(run: LearnerRun) -> None:
        keep(run)
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(LearnerRun, "save", save_and_die)
        for _ in range(2):
            with pytest.raises(_Killed):
                train_learner(config, learner_data(config, _load), tmp_path / "parts", "command")
    assert (tmp_path / "parts" / "little.checkpoint.pt").is_file()
    parts = train_learner(config, learner_data(config, _load), tmp_path / "parts", "command")
    assert "going on after epoch 2" in capsys.readouterr().err
    assert not (tmp_path / "parts" / "little.checkpoint.pt").exists()
    for name, value in load_file(whole).items():
        np.testing.assert_array_equal(value, load_file(parts)[name], err_msg=name)
    card = read_learner_card(parts)
    assert card.id == read_learner_card(whole).id
    assert card.training["command"] == "command"
    assert np.shape(card.training["evaluation_accuracy"]) == (3,)

    def never(run: LearnerRun, tick: object) -> float:
        raise AssertionError("a learner that is done was trained again")

    monkeypatch.setattr(LearnerRun, "one_epoch", never)
    assert train_learner(config, learner_data(config, _load), tmp_path / "parts", "command") == parts
    other = _config(seed=1)
    with pytest.raises(UsageError, match="another configuration"):
        train_learner(other, learner_data(other, _load), tmp_path / "parts", "command")


def test_learners_see_other_samples_of_the_training_split_and_all_of_the_others() -> None:
    one, two = (learner_data(_config(seed=seed), _load) for seed in (0, 1))
    assert len(one.epoch(0)[1]) == len(two.epoch(0)[1]) == 60
    assert not np.array_equal(
        np.sort(one.train.images.sum((1, 2, 3))), np.sort(two.train.images.sum((1, 2, 3)))
    )
    assert len(one.held_out) == len(one.evaluation) == 120


def _run(tmp_path: Path, **changes: object) -> LearnerRun:
    config = _config(**changes)
    return LearnerRun(config, learner_data(config, _load), tmp_path / "checkpoint.pt")


def _parts(run: LearnerRun) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Copies of all that the backbone computes with, and of the exits."""
    state = {name: value.clone() for name, value in run.network.state_dict().items()}
    exits = {name: value for name, value in state.items() if name.startswith(("exits", "phi"))}
    return {name: value for name, value in state.items() if name not in exits}, exits


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("card", [CARD, tiny_card()], ids=["conv", "vit"])
def test_disjoint_freezes_the_backbone_for_the_exits(card: ConvCard, tmp_path: Path) -> None:
    run = _run(tmp_path, card=card, regime="disjoint", epochs=2, backbone_share=0.5)
    first_backbone, first_exits = _parts(run)
    run.one_epoch(lambda: None)
    backbone, exits = _parts(run)
    assert _changed(first_backbone, backbone)
    early = {name for name in exits if name.startswith(("exits.0", "exits.1"))}
    assert not early & _changed(first_exits, exits)
    run.one_epoch(lambda: None)
    last_backbone, last_exits = _parts(run)
    assert not _changed(backbone, last_backbone)
    assert early <= _changed(exits, last_exits)


def test_mixed_trains_all_together_after_the_backbone_and_joint_from_the_start(tmp_path: Path) -> None:
    mixed = _run(tmp_path, regime="mixed", epochs=2, backbone_share=0.5)
    _, exits = _parts(mixed)
    mixed.one_epoch(lambda: None)
    backbone, after = _parts(mixed)
    assert not {name for name in _changed(exits, after) if name.startswith("exits.0")}
    mixed.one_epoch(lambda: None)
    last_backbone, last = _parts(mixed)
    assert _changed(backbone, last_backbone)
    assert {name for name in _changed(after, last) if name.startswith("exits.0")}
    joint = _run(tmp_path, regime="joint", epochs=2)
    _, exits = _parts(joint)
    joint.one_epoch(lambda: None)
    assert {name for name in _changed(exits, _parts(joint)[1]) if name.startswith("exits.0")}


def test_the_rate_rises_once_and_falls_once_but_twice_for_disjoint(tmp_path: Path) -> None:
    def peaks(regime: str) -> int:
        run, rates = _run(tmp_path, regime=regime, epochs=6, backbone_share=0.5), []
        for run.epoch in range(6):
            rates += [run._rate(step, 10) for step in range(10)]
        steps = np.sign(np.diff(rates))
        return int((np.diff(steps[steps != 0]) < 0).sum())

    assert [peaks(regime) for regime in ("joint", "mixed", "disjoint")] == [1, 1, 2]


def test_a_tail_learns_behind_a_frozen_head(tmp_path: Path) -> None:
    network = tiny_network()
    network.card = network.card.model_copy(update={"id": "0123456789abcdef"})
    head = SharedHead(network, 1)
    config = tail_configs(head, epochs=12, batch=20, rate=0.02)[1]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    path = train_learner(config, learner_data(config, _load), tmp_path, "command", head)
    assert not _changed(before, network.state_dict())
    tail = load_learner(path)
    assert (tail.head_id, tail.cut) == ("0123456789abcdef", 1)
    accuracy = tail.card.training["evaluation_accuracy"]
    assert accuracy[-1] > 0.6  # of four classes
    with torch.inference_mode():
        data = _load("evaluation")
        tokens, _ = network.run(network.embed(torch.from_numpy(normalise(data.images, network.card))), 0, 1)
    state, found = tail.begin_tokens(tokens), []
    for gate in range(3):
        qbar, state = tail.advance(state, gate)
        found.append((qbar.argmax(1).numpy() == data.labels).mean())
    np.testing.assert_allclose(found, accuracy, atol=0.02)


def test_the_profile_says_what_the_learners_say(tmp_path: Path) -> None:
    learners = [conv_learner(1), conv_learner(2, name="other")]
    data = _load("evaluation").some(7)
    profile = measure_pool(learners, "evaluation", data, timed=3)
    profile.save(tmp_path / "pool.evaluation.npz")
    profile = PoolProfile.load(tmp_path / "pool.evaluation.npz")
    assert profile.names == ("little", "other")
    assert profile.probabilities.shape == (2, 7, 3, 4)
    for place, learner in enumerate(learners):
        for sample in range(7):
            np.testing.assert_array_equal(
                profile.probabilities[place, sample], learner.opinions(data.images[sample : sample + 1])[0]
            )
        assert tuple(profile.gate_macs[place]) == learner.gate_macs
    assert (profile.gate_s > 0).all()
    two = conv_learner(exits=(1, 3))
    with pytest.raises(UsageError, match="differ in gates or classes"):
        measure_pool([learners[0], two], "evaluation", data)


def test_the_labels_of_a_pool_are_its_classes_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = network_config("cifar10").card().classes
    write_cifar10(tmp_path, {"train": 20, "test": 10}, names[::-1])
    seen: list[StoredData] = []

    def train(config: LearnerConfig, data: StoredData, *_: object) -> Path:
        seen.append(data)
        return tmp_path

    monkeypatch.setattr(pool, "train_learner", train)
    pool.train_pool("cifar10", tmp_path / "pool", tmp_path, learners=1)
    assert seen[0].evaluation.labels.tolist() == list(range(9, -1, -1))


def test_the_commands_train_measure_and_pick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, {"train": 60, "calibration": 20, "test": 20})
    small = [
        LearnerConfig(
            card=ConvCard.model_validate(
                conv_card(name=name, image_size=(32, 32), classes=tuple("0123456789")).model_dump()
            ),
            seed=seed,
            epochs=1,
            batch=20,
        )
        for seed, name in enumerate(("one", "two", "three"))
    ]

    def configs(name: str, seed: int = 0, **changes: object) -> list[LearnerConfig]:
        return [config.model_copy(update=changes) for config in small]

    monkeypatch.setattr(pool, "pool_configs", configs)
    monkeypatch.setattr("splitpoint.models.pool_config.pool_configs", configs)
    run = CliRunner()
    common = ["cifar10", "--data-dir", str(tmp_path)]
    folder = str(tmp_path / "pool")
    for only in (["--only", "two"], ["--regime", "joint"]):
        result = run.invoke(app, ["train-pool", *common, "--out", folder, *only])
        expected = UsageError if only[0] == "--regime" else type(None)
        assert isinstance(result.exception, expected)  # "two" is of another regime: it is not mixed in
    assert sorted(path.name for path in (tmp_path / "pool").glob("*.safetensors")) == [
        "one.safetensors",
        "two.safetensors",
    ]
    assert read_learner_card(tmp_path / "pool" / "two.safetensors").training["command"] == (
        "splitpoint train-pool cifar10 --seed 0"
    )
    result = run.invoke(app, ["train-pool", *common, "--out", folder, "--only", "four"])
    assert isinstance(result.exception, UsageError)
    assert "unknown learner 'four'" in str(result.exception)
    (tmp_path / "pool" / "one.safetensors").unlink()
    with (tmp_path / "pool" / "one.lock").open("w") as claimed:
        fcntl.flock(claimed, fcntl.LOCK_EX)
        result = run.invoke(app, ["train-pool", *common, "--out", folder])
        assert result.exit_code == 0
        assert "one: another process trains it" in result.stderr
    assert not (tmp_path / "pool" / "one.safetensors").exists()
    assert run.invoke(app, ["train-pool", *common, "--out", folder]).exit_code == 0
    assert not list((tmp_path / "pool").glob("*.lock"))
    where = ["--folder", folder, "--out", str(tmp_path / "pool" / "one.safetensors" / "profiles")]
    with monkeypatch.context() as patched:
        patched.setattr("splitpoint.models.pool_measure.measure_pool", pytest.fail)
        result = run.invoke(app, ["profile-pool", *common, *where])
    assert "cannot write the profile" in str(result.exception)
    result = run.invoke(app, ["profile-pool", *common, "--folder", folder, "--samples", "6"])
    assert result.exit_code == 0, result.output
    profile = PoolProfile.load(tmp_path / "pool" / "pool.calibration.npz")
    assert profile.names == ("one", "two", "three")
    assert len(profile) == 6
    from splitpoint.models.quest import ensemble

    assert set(ensemble(tmp_path / "pool" / "pool.ensemble.json", 3)) == {"one", "two", "three"}
