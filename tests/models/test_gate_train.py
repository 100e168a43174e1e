"""Fitting and training gates, and the shipped network that has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from splitpoint.errors import DataError, UsageError
from splitpoint.models.card import read_card
from splitpoint.models.data import Dataset, load_data
from splitpoint.models.evaluate import accuracies
from splitpoint.models.gate_command import train_gates
from splitpoint.models.gate_eval import gate_report, kept_and_right
from splitpoint.models.gate_start import fit_thresholds, start_gates
from splitpoint.models.gate_train import GateConfig, GateRun
from splitpoint.models.gated import with_gates
from splitpoint.models.jscc_command import train_codes
from splitpoint.models.jscc_train import JsccConfig
from splitpoint.models.preprocess import normalise
from splitpoint.models.store import load_network, save_network

from .conftest import Colours, tiny_network


class _Views:
    """Random images of the tiny network's shape, with a bright patch where the class is told."""

    identity = ""

    def __init__(self) -> None:
        images, labels = self.epoch(0)
        self.held_out = self.evaluation = Dataset(images, labels, ("a", "b", "c", "d"))

    def epoch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(index)
        images = rng.integers(0, 256, (96, 16, 24, 3), dtype=np.uint8)
        labels = rng.integers(0, 4, 96)
        return images, labels.astype(np.int64)


CONFIG = GateConfig(steps=4, batch=16, fitted_to=64)


def _run(folder: Path, config: GateConfig = CONFIG, seed: int = 0) -> GateRun:
    return GateRun(config, tiny_network(seed), {}, _Views(), folder / "gates.pt")


def _weights(run: GateRun) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.network.state_dict().items()}


@torch.inference_mode()
def test_fitted_gates_keep_what_was_asked_for_on_the_mean() -> None:
    network, data = with_gates(tiny_network(), 0), _Views().held_out
    start_gates(network, torch.from_numpy(normalise(data.images, network.card)))
    fractions = [kept_and_right(network, data, alpha)[0].mean(axis=0) for alpha in (0.25, 0.5, 0.75)]
    np.testing.assert_allclose([f[0] for f in fractions], (0.25, 0.5, 0.75), atol=0.1)
    assert all((np.diff(f) <= 0).all() for f in fractions)
    before = network.gates.w.clone()
    fit_thresholds(network, torch.from_numpy(normalise(data.images, network.card)))
    torch.testing.assert_close(network.gates.w, before)


def test_fitting_alone_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    run = _run(tmp_path, GateConfig(fitted_to=64))
    before = _weights(run)
    run.run(lambda step, loss: pytest.fail("no step was asked for"))
    after = _weights(run)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"gates.w", "gates.b", "gates.v", "gates.c"}
    codec = {"codec.1.mean": np.ones(16, np.float32)}
    assert run.codec_arrays(codec) is codec


def test_steps_train_the_network_and_what_a_killed_run_leaves_goes_on_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitpoint.models.gate_train._CHECKPOINT_EVERY", 2)
    whole = _run(tmp_path / "whole")
    first = _weights(whole)
    losses: list[float] = []
    whole.run(lambda step, loss: losses.append(loss))
    assert np.isfinite(losses).all()
    assert len(losses) == 4
    assert not torch.equal(first["blocks.0.mlp.fc1.weight"], whole.network.blocks[0].mlp.fc1.weight)
    assert {f"codec.{cut}.{name}" for cut in (1, 2, 3) for name in ("mean", "down", "up")} == set(
        whole.codec_arrays({})
    )

    class Killed(Exception):  # noqa: N818 - no error, an end
        pass

    def kill(step: int, loss: float) -> None:
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        _run(tmp_path / "killed").run(kill)
    resumed = _run(tmp_path / "killed")
    again: list[int] = []
    resumed.run(lambda step, loss: again.append(step))
    assert again == [3, 4]
    for name, value in _weights(whole).items():
        torch.testing.assert_close(_weights(resumed)[name], value, atol=1e-6, rtol=0)


def test_a_checkpoint_of_another_configuration_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitpoint.models.gate_train._CHECKPOINT_EVERY", 1)
    _run(tmp_path).run(lambda step, loss: None)
    with pytest.raises(UsageError, match="of another configuration"):
        _run(tmp_path, CONFIG.model_copy(update={"seed": 1})).run(lambda step, loss: None)
    (tmp_path / "gates.pt").write_bytes(b"broken")
    with pytest.raises(DataError, match="remove it"):
        _run(tmp_path).run(lambda step, loss: None)


def test_a_place_that_cannot_be_written_is_told_before_training(
    tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    tiny_file.with_name(f"{tiny_file.stem}.jscc.safetensors.part").mkdir()
    for command in ("gate_command", "jscc_command"):
        monkeypatch.setattr(f"splitpoint.models.{command}.training_views", pytest.fail)
    for out in (tmp_path / "file" / "gates.safetensors", tmp_path / "file"):
        (tmp_path / "file.part").mkdir(exist_ok=True)
        with pytest.raises(DataError, match="cannot write"):
            train_gates(tiny_file, CONFIG, out)
    with pytest.raises(DataError, match="cannot write the joint codes"):
        train_codes(tiny_file, JsccConfig(steps=1), tmp_path)


def test_the_network_that_gets_gates_stays(tiny_file: Path) -> None:
    with pytest.raises(UsageError, match=r"another file than .*tiny\.safetensors"):
        train_gates(tiny_file, CONFIG, tiny_file)


def test_the_card_tells_the_accuracy_of_the_network_that_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = Colours()
    monkeypatch.setattr("splitpoint.models.gate_command.training_views", lambda *_: views)
    network = tiny_network()
    card = network.card.model_copy(update={"training": {"evaluation_accuracy": [1.0, 1.0, 1.0]}})
    save_network(tmp_path / "n.safetensors", network, card, {})
    for steps in (0, 2):
        config = CONFIG.model_copy(update={"steps": steps})
        out = train_gates(tmp_path / "n.safetensors", config, tmp_path / f"{steps}.safetensors")
        told = read_card(out).training["evaluation_accuracy"]
        assert told == (accuracies(*load_network(out), views.evaluation) if steps else [1.0, 1.0, 1.0])


@pytest.mark.parametrize("small", [{"depth": 1, "exits": (1,)}, {"image_size": (4, 4)}])
def test_networks_too_small_for_gates_are_refused(tmp_path: Path, small: dict[str, object]) -> None:
    network = tiny_network(**small)
    save_network(tmp_path / "n.safetensors", network, network.card, {})
    with pytest.raises(UsageError, match=r"n\.safetensors: gates need two blocks .* two patches"):
        train_gates(tmp_path / "n.safetensors", CONFIG, tmp_path / "gates.safetensors")


def test_the_shipped_gates_keep_alpha_on_test_data_within_three_hundredths() -> None:
    network, card = load_network("clutter-gates")
    assert card.gates
    data = load_data("clutter", "evaluation")
    few = Dataset(data.images[::5], data.labels[::5], data.classes)
    for row in gate_report(network, few):
        assert abs(row["kept_first"] - row["alpha"]) <= 0.03
        assert abs(row["kept_last"] - row["alpha"]) <= 0.03
        assert row["accuracy"] > 0.95


def test_the_shipped_gates_stand_on_the_shipped_network() -> None:
    plain, gated = (load_network(name)[0].state_dict() for name in ("clutter", "clutter-gates"))
    assert {name for name in gated if name not in plain} == {
        f"gates.{name}" for name in ("low", "up", "w", "b", "v", "c")
    }
    assert all(torch.equal(gated[name], value) for name, value in plain.items())
