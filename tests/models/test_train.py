"""Training: a tiny network, killed and resumed; and what the shipped network can do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file

from splitpoint.errors import DataError, UsageError
from splitpoint.models import train_run
from splitpoint.models.card import read_card
from splitpoint.models.data import Dataset, load_data
from splitpoint.models.evaluate import exit_logits
from splitpoint.models.profile import Profile
from splitpoint.models.recursion import prediction
from splitpoint.models.store import codec_arrays, load_network, resolve
from splitpoint.models.train import train
from splitpoint.models.train_config import TrainConfig, network_config
from splitpoint.models.training_data import ClutterData, StoredData
from splitpoint.models.vit import SplitViT

from .conftest import write_cifar10

SMALL = TrainConfig(
    epochs=2,
    views=1,
    batch=100,
    dim=12,
    depth=2,
    heads=2,
    exits=(1, 2),
    exit_state_dim=8,
    threads=1,
)


class _Killed(Exception):  # noqa: N818
    pass


def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(SMALL, tmp_path / "whole.safetensors")
    assert whole == tmp_path / "whole.safetensors"
    card = read_card(whole)
    record = card.training["evaluation_accuracy"]
    assert isinstance(record, list)
    assert len(record) == 2
    arrays = codec_arrays(whole)
    assert sorted(arrays) == [f"codec.1.{name}" for name in ("down", "mean", "tables", "up")]
    assert list((tmp_path / "whole.training" / "logs").iterdir())

    saves = 0
    keep = train_run.TrainRun.save

    def save_and_die(run: train_run.TrainRun) -> None:
        nonlocal saves
        keep(run)
        saves += 1
        raise _Killed

    monkeypatch.setattr(train_run.TrainRun, "save", save_and_die)
    for _ in range(2):
        with pytest.raises(_Killed):
            train(SMALL, tmp_path / "parts")
    assert saves == 2
    parts = train(SMALL, tmp_path / "parts")
    assert parts == tmp_path / "parts" / "clutter.safetensors"
    assert read_card(parts).id == card.id
    for name, value in load_file(whole).items():
        np.testing.assert_array_equal(value, load_file(parts)[name], err_msg=name)

    with pytest.raises(UsageError, match="another configuration"):
        train(SMALL.model_copy(update={"seed": 1}), tmp_path / "parts")
    (tmp_path / "parts" / "checkpoint.pt").write_bytes(b"garbage")
    with pytest.raises(DataError, match="remove it to train anew"):
        train(SMALL, tmp_path / "parts")


def test_epochs_are_shared_out_and_fragments_come_by_and_by() -> None:
    assert TrainConfig().parts() == (TrainConfig().backbone_epochs, TrainConfig().mixed_epochs)
    assert TrainConfig(epochs=10).parts() == (6, 4)
    assert TrainConfig(epochs=2).parts() == (1, 1)
    data = ClutterData(0, 1, ramp=8)
    counts = [data.fragments(epoch) for epoch in range(9)]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == data.fragments(10_000) > 5


def test_a_named_network_is_trained_from_its_own_data(tmp_path: Path) -> None:
    write_cifar10(tmp_path, {"train": 40, "test": 10})
    config = network_config("cifar10", epochs=2, batch=12, dim=12, depth=2, heads=2, exits=(1, 2), threads=1)
    path = train(config, tmp_path / "out", tmp_path)
    assert path == tmp_path / "out" / "cifar10.safetensors"
    network, card = load_network(path)
    assert (card.name, card.stem_blocks, card.classes[6]) == ("cifar10", (1, 1), "frog")
    assert exit_logits(network, card, load_data("cifar10", data_dir=tmp_path)).shape == (10, 2, 10)
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        network_config("cifar")
    with pytest.raises(DataError, match="--data-dir"):
        train(config, tmp_path / "other")


def test_views_are_a_function_of_seed_and_epoch_and_keep_their_labels() -> None:
    flat = np.arange(200, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(24, 2).repeat(3, 3)
    sets = dict.fromkeys(("train", "calibration", "evaluation"), Dataset(flat, np.arange(200), ()))
    data = StoredData(3, sets.__getitem__)
    images, labels = data.epoch(5)
    assert sorted(labels) == list(range(200))
    # A flat image stays flat but for its tone: the label follows its image.
    assert abs(images.mean(axis=(1, 2, 3)) - labels)[(labels > 30) & (labels < 225)].max() <= 21
    again, again_labels = StoredData(3, sets.__getitem__).epoch(5)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, again_labels)
    for other in (StoredData(4, sets.__getitem__).epoch(5), data.epoch(6)):
        assert (other[1] != labels).any()


def test_mirror_images_are_shown_unless_they_are_something_else() -> None:
    rising = np.arange(0, 240, 10, dtype=np.uint8)[None, None, :, None].repeat(40, 0).repeat(24, 1)
    sets = dict.fromkeys(("train", "calibration", "evaluation"), Dataset(rising, np.arange(40), ()))
    mirrored = {}
    for flip in (True, False):
        views = StoredData(3, sets.__getitem__, light=True, flip=flip).epoch(0)[0][..., 0].astype(int)
        mirrored[flip] = int((views[:, :, 6].mean(1) > views[:, :, 17].mean(1)).sum())
    assert 10 < mirrored[True] < 30
    assert mirrored[False] == 0


def test_configurations_are_checked(tmp_path: Path) -> None:
    for wrong in ({"batch": 0}, {"epochs": 1}, {"accelerator": "tpu"}, {"learning_rate": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            TrainConfig.model_validate(wrong)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA"):
            train(SMALL.model_copy(update={"accelerator": "cuda"}), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        train(SMALL, tmp_path / "file")


def test_the_shipped_network_reads_clutter() -> None:
    network, card = load_network("clutter")
    data = load_data("clutter", "evaluation", card=card)
    right = (prediction(exit_logits(network, card, data)) == data.labels[:, None]).mean(axis=0)
    assert right[-1] >= 0.92
    # As the card says, but for the weights' rounding to half precision.
    np.testing.assert_allclose(right, card.training["evaluation_accuracy"], atol=0.005)
    # What later exits are for.
    assert right[0] < right[-1]
    assert resolve("clutter").stat().st_size < 2_000_000


@pytest.mark.parametrize(("split", "samples"), [("calibration", 891), ("evaluation", 1000)])
def test_the_shipped_profiles_are_of_the_shipped_network(split: str, samples: int) -> None:
    path = resolve("clutter")
    profile = Profile.load(path.with_name(f"clutter.{split}.npz"))
    assert profile.card == read_card(path)
    assert (profile.split_name, len(profile)) == (split, samples)
    data = load_data("clutter", split)
    np.testing.assert_array_equal(profile.labels, data.labels)
    network, card = load_network("clutter")
    few = slice(0, 64)
    small = type(data)(data.images[few], data.labels[few], data.classes)
    again = prediction(exit_logits(network, card, small))
    # Another machine's arithmetic may turn a near-tie.
    assert (again != profile.head_prediction[few]).mean() <= 0.01


class _Few:
    """A few clutter images, the same in every epoch."""

    held_out = evaluation = load_data("clutter", "calibration").some(100)

    def epoch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.held_out.images, self.held_out.labels


def _steps(regime: str, folder: Path) -> tuple[dict[str, torch.Tensor], ...]:
    """Weights at first and after each of two epochs."""
    config = SMALL.model_copy(update={"regime": regime, "batch": 50})
    torch.manual_seed(0)
    run = train_run.TrainRun(config, SplitViT(config.card()), _Few(), folder)
    found = [{name: value.clone() for name, value in run.network.state_dict().items()}]
    for _ in range(2):
        run.one_epoch(lambda: None)
        found.append({name: value.clone() for name, value in run.network.state_dict().items()})
    return tuple(found)


def test_regimes_decide_what_learns_when(tmp_path: Path) -> None:
    def learnt(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
        parts = {name for name, value in before.items() if not torch.equal(value, after[name])}
        return {
            ".".join(name.split(".")[: 2 if name.startswith(("exits", "blocks")) else 1]) for name in parts
        }

    everything = {
        "patch_embed",
        "cls_token",
        "pos_embed",
        "blocks.0",
        "blocks.1",
        "exits.0",
        "exits.1",
        "phi",
    }
    first, then, last = _steps("mixed", tmp_path)
    assert learnt(first, then) == everything - {"exits.0"}
    assert learnt(then, last) == everything
    first, then, last = _steps("disjoint", tmp_path)
    assert learnt(first, then) == everything - {"exits.0"}
    assert learnt(then, last) == {"exits.0", "exits.1", "phi"}
    first, then, last = _steps("joint", tmp_path)
    assert learnt(first, then) == learnt(then, last) == everything


def test_a_checkpoint_of_the_default_regime_does_not_name_it() -> None:
    assert "regime" not in SMALL.identity()
    assert SMALL.model_copy(update={"regime": "joint"}).identity() != SMALL.identity()
    assert TrainConfig(regime="joint", epochs=5).parts() == (0, 5)
    with pytest.raises(ValidationError):
        TrainConfig.model_validate({"regime": "jiont"})
