"""An own model on own data: what is taken over, how the data divides, and what is said of what does not fit."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from splitpoint.errors import DataError, UsageError
from splitpoint.models.data import load_data
from splitpoint.models.gated import with_gates
from splitpoint.models.own import adapted, own_config, own_data
from splitpoint.models.profile import Profile
from splitpoint.models.store import load_network, save_network
from splitpoint.models.train import train
from splitpoint.models.train_run import TrainRun
from splitpoint.models.training_data import StoredData
from splitpoint.models.training_views import training_views

from .conftest import tiny_card, tiny_network


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    return out.getvalue()


PNG = _png()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder, 12 pictures in each of three classes."""
    rng = np.random.default_rng(0)
    for name in ("3", "cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for place in range(12):
            pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{place}.png")
    return tmp_path / "data"


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A plain ViT of 64 dims as timm would save it, for 1000 classes."""
    card = tiny_card(
        image_size=(16, 16),
        dim=64,
        heads=1,
        depth=3,
        exits=(3,),
        exit_kind="linear",
        exit_state_dim=0,
        classes=tuple(str(i) for i in range(1000)),
    )
    torch.manual_seed(0)
    state = type(tiny_network())(card).state_dict()
    named = {name.replace("exits.0.", ""): value.contiguous() for name, value in state.items()}
    save_file(named, tmp_path / "vit.safetensors")
    return tmp_path / "vit.safetensors"


def test_what_was_trained_without_mirror_images_sees_none_later(
    vit: Path, folder: Path, tmp_path: Path
) -> None:
    base = load_network(vit)[1]
    assert own_data(folder, base, 0)[0].flip
    config = own_config(str(vit), base, "mine", epochs=2, batch=9, threads=1, flip=False)
    card = load_network(train(config, tmp_path / "out", folder, str(vit)))[1]
    views = training_views(str(folder), card, 0)
    assert isinstance(views, StoredData)
    assert not views.flip
    assert not own_config("mine", card, "again").flip


def test_one_command_fits_a_vit_to_an_image_folder(vit: Path, folder: Path, tmp_path: Path) -> None:
    base = load_network(vit)[1]
    config = own_config(str(vit), base, "mine", epochs=2, batch=9, threads=1)
    path = train(config, tmp_path / "out", folder, str(vit))
    assert train(config, tmp_path / "out", folder, str(vit)) == path
    network, card = load_network(path)
    assert (card.name, card.classes, card.exits, card.exit_kind) == (
        "mine",
        ("3", "cat", "dog"),
        (1, 2, 3),
        "recursive",
    )
    assert network(torch.zeros(1, 3, 16, 16))[-1].shape == (1, 3)
    record = card.training["evaluation_accuracy"]
    assert isinstance(record, list)
    assert len(record) == 3
    # What training did not see is kept, with profiles of it, so that a scenario can name the model at once.
    for split in ("calibration", "evaluation"):
        kept = load_data(tmp_path / "out" / f"{split}.parquet", card=card)
        profile = Profile.load(tmp_path / "out" / f"mine.{split}.npz")
        assert (profile.card.id, len(profile), kept.classes) == (card.id, 3, card.classes)
        np.testing.assert_array_equal(profile.labels, kept.labels)


def test_an_own_model_is_not_measured_for_days(
    vit: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitpoint.models.train._PROFILED", 2)
    config = own_config(str(vit), load_network(vit)[1], "mine", epochs=2, batch=9, threads=1)
    train(config, tmp_path / "out", folder, str(vit))
    kept = load_data(tmp_path / "out" / "evaluation.parquet")
    measured = Profile.load(tmp_path / "out" / "mine.evaluation.npz").labels
    np.testing.assert_array_equal(measured, kept.some(2).labels)


def test_what_fits_is_taken_over(vit: Path, tmp_path: Path) -> None:
    base, card = load_network(vit)
    network = adapted(str(vit), own_config(str(vit), card, "mine"), ("a", "b"))
    for name, value in base.state_dict().items():
        if not name.startswith("exits."):
            torch.testing.assert_close(network.state_dict()[name], value)
    assert network.card.class_count == 2


def test_a_classifier_becomes_no_early_exit(tmp_path: Path) -> None:
    card = tiny_card(exits=(4,), exit_kind="linear", exit_state_dim=0)
    network = tiny_network(**card.model_dump())
    torch.nn.init.constant_(network.exits[0].norm.weight, 3.0)
    path = tmp_path / "plain.safetensors"
    save_network(path, network, card, {})
    taken = adapted(str(path), own_config(str(path), card, "mine"), card.classes)
    assert taken.exits[0].norm.weight.eq(1).all()


def test_gates_are_not_taken_over(tmp_path: Path) -> None:
    gated = with_gates(tiny_network(), 0)
    path = tmp_path / "gated.safetensors"
    card = save_network(path, gated, gated.card, {})
    taken = adapted(str(path), own_config(str(path), card, "mine"), card.classes)
    assert not taken.card.gates
    torch.testing.assert_close(taken.exits[0].state_dict(), load_network(path)[0].exits[0].state_dict())


def test_a_folder_is_divided_into_three(folder: Path, vit: Path) -> None:
    data, classes = own_data(folder, load_network(vit)[1], 0)
    assert classes == ("3", "cat", "dog")
    seen = [data.epoch(0)[1], data.held_out.labels, data.evaluation.labels]
    assert [len(part) for part in seen] == [30, 3, 3]
    assert np.bincount(np.concatenate(seen)).tolist() == [12, 12, 12]


def test_a_test_split_of_its_own_is_left_alone(tmp_path: Path, folder: Path, vit: Path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    folder.rename(both / "train")
    (both / "test" / "dog").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(both / "test" / "dog" / "a.png")
    data, _ = own_data(both, load_network(vit)[1], 0)
    assert data.evaluation.labels.tolist() == [2]
    assert len(data.epoch(0)[1]) + len(data.held_out) == 36


@pytest.mark.parametrize(
    "names", [("Train", "Test"), ("Training", "Testing"), ("train", "valid"), ("TRAIN", "VAL")]
)
def test_splits_are_known_by_their_usual_names(
    tmp_path: Path, folder: Path, vit: Path, names: tuple[str, str]
) -> None:
    both = tmp_path / "both"
    both.mkdir()
    folder.rename(both / names[0])
    (both / names[1] / "dog").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(both / names[1] / "dog" / "a.png")
    data, classes = own_data(both, load_network(vit)[1], 0)
    assert classes == ("3", "cat", "dog")
    assert data.evaluation.labels.tolist() == [2]


def test_trains_may_be_a_class(folder: Path, vit: Path) -> None:
    (folder / "cat").rename(folder / "train")
    assert own_data(folder, load_network(vit)[1], 0)[1] == ("3", "dog", "train")


def test_a_class_that_training_did_not_see_is_not_taken_for_another(
    tmp_path: Path, folder: Path, vit: Path
) -> None:
    both = tmp_path / "both"
    both.mkdir()
    folder.rename(both / "train")
    for name in ("cat", "dog", "horse"):
        (both / "val" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(both / "val" / name / "a.png")
    with pytest.raises(DataError, match="'horse' is none of"):
        own_data(both, load_network(vit)[1], 0)


def test_data_of_ones_own_are_not_written_over(vit: Path, tmp_path: Path) -> None:
    for split in ("train", "evaluation"):
        parquet.write_table(
            pa.table({"image": [PNG] * 40, "label": [0, 1] * 20}), tmp_path / f"{split}.parquet"
        )
    before = (tmp_path / "evaluation.parquet").read_bytes()
    config = own_config(str(vit), load_network(vit)[1], "mine", epochs=2, batch=9, threads=1)
    for source in (tmp_path, tmp_path / "train.parquet"):
        with pytest.raises(UsageError, match="would be written over: give another --out"):
            train(config, tmp_path / "mine.safetensors", source, str(vit))
    assert (tmp_path / "evaluation.parquet").read_bytes() == before
    # Nor those that another training has kept.
    (tmp_path / "runs").mkdir()
    (tmp_path / "evaluation.parquet").rename(tmp_path / "runs" / "evaluation.parquet")
    with pytest.raises(UsageError, match="would be written over: give another --out"):
        train(config, tmp_path / "runs" / "mine.safetensors", tmp_path / "train.parquet", str(vit))


def test_kept_out_images_do_not_lie_beside_a_training_split_that_has_them(
    vit: Path, folder: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    both.mkdir()
    folder.rename(both / "train")
    config = own_config(str(vit), load_network(vit)[1], "mine", epochs=2, batch=9, threads=1)
    for source in (both, both / "train"):
        with pytest.raises(UsageError, match=r"both/train, which has them too: give another --out"):
            train(config, both, source, str(vit))
    assert [entry.name for entry in both.iterdir()] == ["train"]


def test_a_training_leaves_no_folder_among_the_classes(vit: Path, folder: Path) -> None:
    config = own_config(str(vit), load_network(vit)[1], "mine", epochs=2, batch=9, threads=1)
    for out in (folder, folder / "runs" / "mine", folder / "mine.safetensors"):
        with pytest.raises(UsageError, match="where folders are classes: give another --out"):
            train(config, out, folder, str(vit))
    assert sorted(entry.name for entry in folder.iterdir()) == ["3", "cat", "dog"]


def test_the_model_that_is_started_from_stays(vit: Path, folder: Path, tmp_path: Path) -> None:
    config = own_config(str(vit), load_network(vit)[1], "vit", epochs=2, batch=9, threads=1)
    for out in (vit, tmp_path):
        with pytest.raises(UsageError, match=r"another file than .*vit\.safetensors"):
            train(config, out, folder, str(vit))
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(DataError, match="cannot write the model file"):
        train(config, tmp_path / "folder.safetensors", folder, str(vit))


def test_too_few_images_for_a_batch_are_not_trained_on(vit: Path, folder: Path, tmp_path: Path) -> None:
    config = own_config(str(vit), load_network(vit)[1], "mine", epochs=2, batch=32, threads=1)
    with pytest.raises(DataError, match="30 images to train on are less than one batch of 32"):
        train(config, tmp_path / "out", folder, str(vit))


def test_a_checkpoint_on_other_pictures_is_refused(vit: Path, folder: Path, tmp_path: Path) -> None:
    base = load_network(vit)[1]
    config = own_config(str(vit), base, "mine", epochs=2, batch=9, threads=1)

    def begun() -> TrainRun:
        data, classes = own_data(folder, base, config.seed)
        return TrainRun(config, adapted(str(vit), config, classes), data, tmp_path / "out")

    begun().save()
    assert begun().resume()
    Image.new("RGB", (20, 20)).save(folder / "cat" / "0.png")
    with pytest.raises(UsageError, match="of other data"):
        begun().resume()
    (folder / "cat").rename(folder / "cow")
    with pytest.raises(UsageError, match="of other data"):
        begun().resume()


def test_data_that_cannot_be_used_are_named(tmp_path: Path, vit: Path) -> None:
    base = load_network(vit)[1]
    with pytest.raises(DataError, match="there is no data at"):
        own_data(tmp_path / "absent", base, 0)
    for label in (-1, 1 << 16):
        parquet.write_table(pa.table({"image": [PNG] * 2, "label": [0, label]}), tmp_path / "labels.parquet")
        with pytest.raises(DataError, match=r"labels span .* below 65536"):
            own_data(tmp_path / "labels.parquet", base, 0)
    parquet.write_table(pa.table({"image": [PNG] * 3, "label": [0, 1, 1]}), tmp_path / "few.parquet")
    with pytest.raises(DataError, match=r"few\.parquet: of 3 images 1 are left to train on"):
        own_data(tmp_path / "few.parquet", base, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        own_data(tmp_path / "empty", base, 0)
    (tmp_path / "one" / "cat").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "one" / "cat" / "a.png")
    table = pa.table({"image": [PNG] * 2, "label": [1, 1]})
    parquet.write_table(table, tmp_path / "ones.parquet")
    for source in ("one", "ones.parquet"):
        with pytest.raises(DataError, match="one class only"):
            own_data(tmp_path / source, base, 0)


def test_labels_are_the_classes_of_the_network_that_learns_from_them(folder: Path) -> None:
    card = tiny_card(image_size=(16, 16), classes=("3", "bird", "cat", "dog"))
    views = training_views(str(folder), card, 0)
    seen = [views.epoch(0)[1], views.held_out.labels, views.evaluation.labels]
    assert np.bincount(np.concatenate(seen)).tolist() == [12, 0, 12, 12]
    with pytest.raises(DataError, match="'cat' is none of"):
        training_views(str(folder), tiny_card(image_size=(16, 16), classes=("3", "dog")), 0)


def test_canvases_are_for_networks_that_take_them() -> None:
    with pytest.raises(DataError, match="clutter's canvases"):
        training_views("clutter", load_network("cifar10")[1], 0)
