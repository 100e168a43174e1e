from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from splitpoint.errors import DataError, UsageError
from splitpoint.models.card import read_card, read_metadata
from splitpoint.models.identity import model_id
from splitpoint.models.store import (
    built_in_models,
    codec_arrays,
    load_network,
    resolve,
    save_codes,
    save_network,
    save_tables,
)

from .conftest import tiny_network


def test_a_saved_network_answers_as_before_but_for_half_precision(tmp_path: Path) -> None:
    network = tiny_network(stem="conv", patch=8)
    network.train()
    with torch.no_grad():
        network.patch_embed(torch.randn(8, 3, 16, 24))  # moves the batch statistics
    network.eval()
    card = save_network(tmp_path / "n.safetensors", network, network.card, {})
    loaded, loaded_card = load_network(tmp_path / "n.safetensors")
    assert loaded_card == card
    assert not loaded.training
    images = torch.randn(2, 3, 16, 24)
    for before, after in zip(network(images), loaded(images), strict=True):
        torch.testing.assert_close(before, after, atol=2e-2, rtol=0)


def test_the_id_is_of_the_tensors_alone(tmp_path: Path) -> None:
    a, b = tiny_network(), tiny_network(seed=1)
    first = save_network(tmp_path / "a.safetensors", a, a.card, {})
    renamed = save_network(tmp_path / "b.safetensors", a, a.card.model_copy(update={"name": "other"}), {})
    other = save_network(tmp_path / "c.safetensors", b, b.card, {})
    assert first.id == renamed.id != other.id
    assert (
        model_id(load_file(tmp_path / "a.safetensors"))
        == first.id
        == read_card(tmp_path / "a.safetensors").id
    )


def test_the_id_sees_names_shapes_and_types() -> None:
    x = np.arange(4, dtype=np.float16)
    ids = {
        model_id(tensors)
        for tensors in ({"a": x}, {"b": x}, {"a": x.reshape(2, 2)}, {"a": x.view(np.int16)}, {"a": x + 1}, {})
    }
    assert len(ids) == 6
    assert model_id({"a": x, "b": x}) == model_id({"b": x, "a": x})


def test_codec_arrays_come_without_the_network(tiny_file: Path) -> None:
    arrays = codec_arrays(tiny_file)
    assert arrays.pop("codec.2.rest").dtype == np.uint8
    assert sorted(arrays) == [f"codec.{c}.{n}" for c in (1, 2, 3) for n in ("down", "mean", "up")]
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_integer_tables_keep_their_type(tmp_path: Path) -> None:
    network = tiny_network()
    table = np.array([0, 65535], dtype=np.uint16)
    save_network(tmp_path / "n.safetensors", network, network.card, {"codec.1.tables": table})
    np.testing.assert_array_equal(codec_arrays(tmp_path / "n.safetensors")["codec.1.tables"], table)


def test_an_unknown_name_is_told_the_nearest() -> None:
    assert "clutter" in built_in_models()
    with pytest.raises(UsageError, match="did you mean 'clutter'"):
        resolve("cluter")
    with pytest.raises(DataError, match="no model file nowhere/else"):
        resolve("nowhere/else")
    with pytest.raises(DataError, match="is a folder: name the safetensors file"):
        resolve(Path(__file__).parent)


def test_altered_weights_are_noticed(tmp_path: Path, tiny_file: Path) -> None:
    tensors = load_file(tiny_file)
    metadata = {"card": read_card(tiny_file).model_dump_json()}
    tensors["cls_token"] = tensors["cls_token"] + np.float16(1)
    save_file(tensors, tmp_path / "n.safetensors", metadata=metadata)
    with pytest.raises(DataError, match="do not match the card's id"):
        load_network(tmp_path / "n.safetensors")


def test_weights_that_do_not_fit_the_card_are_named(tmp_path: Path, tiny_file: Path) -> None:
    tensors = load_file(tiny_file)
    tensors["cls_token"] = np.zeros((1, 1, 3), np.float16)
    card = read_card(tiny_file).model_copy(update={"id": model_id(tensors)})
    save_file(tensors, tmp_path / "n.safetensors", metadata={"card": card.model_dump_json()})
    with pytest.raises(DataError, match="'cls_token' does not fit"):
        load_network(tmp_path / "n.safetensors")


def test_a_card_of_any_size_is_held_against_the_weights_first(tmp_path: Path, tiny_file: Path) -> None:
    tensors = load_file(tiny_file)
    for change in ({"dim": 10**12}, {"depth": 10**9, "exits": (1, 10**9)}):
        card = read_card(tiny_file).model_copy(update=change)
        save_file(tensors, tmp_path / "n.safetensors", metadata={"card": card.model_dump_json()})
        with pytest.raises(DataError, match=r"norm1\.weight' does not fit the card"):
            load_network(tmp_path / "n.safetensors")


def test_weights_that_are_no_numbers_are_named(tmp_path: Path, tiny_file: Path) -> None:
    tensors = load_file(tiny_file)
    tensors["exits.1.norm.bias"][0] = np.nan
    card = read_card(tiny_file).model_copy(update={"id": model_id(tensors)})
    save_file(tensors, tmp_path / "n.safetensors", metadata={"card": card.model_dump_json()})
    with pytest.raises(DataError, match=r"'exits\.1\.norm\.bias' holds NaN"):
        load_network(tmp_path / "n.safetensors")


def test_joint_codes_lie_beside_somebodys_vit_of_bfloat16(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    save_torch({"norm.bias": torch.zeros(3, dtype=torch.bfloat16), "head.bias": torch.ones(2)}, path)
    assert codec_arrays(path) == {}
    save_codes(path, {"jscc.1.mean": np.ones(3, np.float32)}, {})
    np.testing.assert_array_equal(codec_arrays(path)["jscc.1.mean"], np.ones(3))


def test_codec_arrays_must_be_named_as_such(tmp_path: Path) -> None:
    network = tiny_network()
    with pytest.raises(UsageError, match="'mean'"):
        save_network(tmp_path / "n.safetensors", network, network.card, {"mean": np.zeros(3)})
    assert not list(tmp_path.iterdir())


def test_code_tables_change_neither_weights_nor_id_and_have_a_crc(tmp_path: Path, tiny_file: Path) -> None:
    table = np.array([3, 0, 65535], dtype=np.uint16)
    path = save_tables(tiny_file, {"codec.1.tables": table}, tmp_path / "coded.safetensors")
    assert load_network(path)[1] == read_card(tiny_file)
    before, after = load_file(tiny_file), load_file(path)
    assert after.keys() - before.keys() == {"codec.1.tables"}
    assert all((after[name] == before[name]).all() for name in before)
    again = save_tables(path, {"codec.2.tables": table})
    assert again == path
    assert "codec.1.tables" not in codec_arrays(path)
    metadata = read_metadata(path)
    save_file(load_file(path) | {"codec.2.tables": table + np.uint16(1)}, path, metadata=metadata)
    with pytest.raises(DataError, match="code tables do not match their CRC"):
        codec_arrays(path)
    with pytest.raises(UsageError, match=r"codec\.1\.mean"):
        save_tables(tiny_file, {"codec.1.mean": table})
