"""Code tables of a model that exists: fitted to training data, they shorten messages and change nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from splitpoint.codec.tokens import TokenCodec
from splitpoint.errors import UsageError
from splitpoint.models.code_tables import fit_model_tables
from splitpoint.models.data import load_data
from splitpoint.models.data_file import write_parquet
from splitpoint.models.grid import Grid
from splitpoint.models.measure import measure
from splitpoint.models.own import own_data
from splitpoint.models.preprocess import normalise
from splitpoint.models.profile import Profile
from splitpoint.models.store import codec_arrays, load_network, resolve, save_codes, save_network

from .conftest import tiny_network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few images of two classes."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for label in "ab":
        (folder / label).mkdir()
        for number in range(12):
            pixels = random.integers(0, 256, (16, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def test_fitted_tables_are_a_function_of_the_data_and_leave_answers_alone(
    tiny_file: Path, folder: Path, tmp_path: Path
) -> None:
    path = fit_model_tables(tiny_file, folder, samples=20, out=tmp_path / "coded.safetensors")
    again = fit_model_tables(tiny_file, folder, samples=20, out=tmp_path / "again.safetensors")
    assert codec_arrays(path).keys() == codec_arrays(again).keys()
    assert TokenCodec(codec_arrays(path)).tables_crc == TokenCodec(codec_arrays(again)).tables_crc
    card = load_network(path)[1]
    data = load_data(folder, card=card)
    grid = Grid((1, 2), (1.0,), (card.dim,), (8,))
    plain = measure(tiny_file, data, "calibration", grid=grid, progress=False)
    coded = measure(path, data, "calibration", grid=grid, coder="ans", progress=False)
    np.testing.assert_array_equal(plain.tail_margin, coded.tail_margin)
    assert (coded.request_bytes <= plain.request_bytes).all()
    codec = TokenCodec(codec_arrays(path))
    assert (plain.tables_crc, coded.tables_crc) == (0, codec.tables_crc)
    coded.save(tmp_path / "coded.npz")
    assert Profile.load(tmp_path / "coded.npz").tables_crc == codec.tables_crc


def test_tables_are_fitted_to_what_is_trained_on(tiny_file: Path, folder: Path, tmp_path: Path) -> None:
    kept = own_data(folder, load_network(tiny_file)[1], 0, matched=True)[0].train
    assert len(kept) < len(load_data(folder))
    write_parquet(kept, tmp_path / "train.parquet")
    write_parquet(kept.some(2), tmp_path / "calibration.parquet")
    write_parquet(kept.some(2), tmp_path / "evaluation.parquet")
    fitted = [
        codec_arrays(fit_model_tables(tiny_file, data, samples=99, out=tmp_path / "coded.safetensors"))
        for data in (folder, tmp_path)
    ]
    for name in fitted[0]:
        np.testing.assert_array_equal(fitted[0][name], fitted[1][name])


def test_a_network_without_bottlenecks_is_refused(tmp_path: Path, folder: Path) -> None:
    network = tiny_network()
    save_network(tmp_path / "n.safetensors", network, network.card, {})
    with pytest.raises(UsageError, match="no bottlenecks"):
        fit_model_tables(tmp_path / "n.safetensors", folder)


def test_somebodys_vit_is_left_alone_though_joint_codes_lie_beside_it(tmp_path: Path, folder: Path) -> None:
    network = tiny_network(
        exits=(4,), exit_kind="linear", exit_state_dim=0, dim=64, heads=1, image_size=(16, 16)
    )
    path = tmp_path / "vit.safetensors"
    save_file({name.removeprefix("exits.0."): value for name, value in network.state_dict().items()}, path)
    before = path.read_bytes()
    save_codes(path, {"jscc.1.mean": np.zeros(64, np.float32)}, {})
    with pytest.raises(UsageError, match="no bottlenecks"):
        fit_model_tables(path, folder)
    assert path.read_bytes() == before


def test_the_shipped_tables_shorten_messages_at_every_cut() -> None:
    network, card = load_network("clutter")
    codec = TokenCodec(codec_arrays(resolve("clutter")))
    images = load_data("clutter", "calibration", card=card).images[:6]
    with torch.inference_mode():
        x = network.embed(torch.from_numpy(normalise(images, card)))
        for cut in range(1, card.depth):
            x, scores = network.run(x, cut - 1, cut)
            sizes = [
                [codec.encode(t, s, cut, 1.0, 0, 4, coder)[0].ByteSize() for coder in codec.coders(cut)]
                for t, s in zip(x.numpy(), scores.numpy(), strict=True)
            ]
            packed, coded = np.mean(sizes, axis=0)
            assert coded < 0.98 * packed
