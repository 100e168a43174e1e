"""The two heads: any split and exit, torch and ONNX Runtime alike, and an export that is whole or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from splitpoint.codec.tokens import TokenCodec
from splitpoint.device.export import export
from splitpoint.device.head import Head, HeadState, advanced
from splitpoint.device.load import calibration_of, codec_of, load_head
from splitpoint.errors import DataError, UsageError
from splitpoint.models.data import load_data
from splitpoint.models.store import codec_arrays, load_network, resolve, save_codes

from .conftest import Small, make_small

NEAR_TIE = 1e-4
SAMPLES = 200


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network's export."""
    folder = tmp_path_factory.mktemp("shipped") / "exported"
    export("clutter", folder, progress=False)
    return folder


def test_the_shipped_network_answers_alike_on_torch_and_onnx(shipped: Path) -> None:
    torch_head, onnx_head = load_head("clutter"), load_head(shipped)
    card = torch_head.card
    codec = TokenCodec(codec_arrays(codec_of(shipped)), dim=card.dim)
    images = load_data("clutter", "evaluation", card=card).images[:SAMPLES]
    elements = differing = exits = 0
    for image in images:
        one: HeadState | None = None
        two: HeadState | None = None
        for cut in range(1, card.depth + 1):
            one, two = advanced(torch_head, image, one, cut), advanced(onnx_head, image, two, cut)
            assert (
                (two.blocks, two.passed)
                == (one.blocks, one.passed)
                == (cut, sum(e <= cut for e in card.exits))
            )
            if cut in card.exits:
                exits += 1
                assert two.margin == pytest.approx(one.margin, abs=NEAR_TIE)
                assert two.prediction == one.prediction or one.margin < NEAR_TIE
            if cut < card.depth:
                first, kept = codec.quantised(one.tokens, one.scores, cut, 0.5, 0)
                second, kept_too = codec.quantised(two.tokens, two.scores, cut, 0.5, 0)
                np.testing.assert_array_equal(kept, kept_too)
                apart = np.abs(first.codes.astype(int) - second.codes.astype(int))
                assert apart.max() <= 1
                elements += apart.size
                differing += int((apart > 0).sum())
    assert exits == SAMPLES * len(card.exits)
    assert differing <= 0.001 * elements


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": 3, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "image_size": (8, 24)},
        {"stem": "conv", "stem_blocks": (1, 0, 0), "image_size": (32, 16), "patch": 8},
        {"exit_kind": "linear", "exit_state_dim": 0, "exits": (2, 4)},
        {"depth": 1, "exits": (1,), "heads": 4, "mlp_ratio": 2.0},
        {"image_size": (4, 4), "classes": ("only",)},
    ],
    ids=["patch", "colour", "conv", "linear", "shallow", "one token"],
)
def test_every_kind_of_network_exports(tmp_path: Path, changes: dict[str, Any]) -> None:
    made = make_small(tmp_path, 3, **changes)
    one, two = load_head(made.file), load_head(made.folder)
    assert one.card == two.card
    for seed in range(3):
        image = made.image(seed)
        for cut in range(1, made.card.depth + 1):
            a, b = advanced(one, image, None, cut), advanced(two, image, None, cut)
            np.testing.assert_allclose(b.tokens, a.tokens, atol=1e-4)
            np.testing.assert_allclose(b.scores, a.scores, atol=1e-5)
            assert (a.u is None) == (b.u is None) == (cut < made.card.exits[0])
            if a.u is not None:
                np.testing.assert_allclose(b.u, a.u, atol=1e-4)
                np.testing.assert_allclose(b.logits, a.logits, atol=1e-4)


@pytest.fixture(params=["torch", "onnx"])
def head(request: pytest.FixtureRequest, small: Small) -> Head:
    return load_head(small.file if request.param == "torch" else small.folder, request.param)


def test_the_way_to_a_cut_does_not_matter(head: Head, small: Small) -> None:
    image, depth = small.image(1), small.card.depth
    whole, steps = advanced(head, image, None, depth), None
    for cut in range(1, depth + 1):
        steps = advanced(head, image, steps, cut)
    for name in ("tokens", "scores", "u", "logits"):
        np.testing.assert_array_equal(getattr(steps, name), getattr(whole, name))


def test_a_state_goes_on_from_where_it_stood_and_is_not_changed(head: Head, small: Small) -> None:
    state = advanced(head, small.image(1), None, 2)
    before = [array.copy() for array in (state.tokens, state.scores, state.u, state.logits)]
    first, second = advanced(head, small.image(9), state, 4), advanced(head, small.image(1), state, 4)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    for array, kept in zip((state.tokens, state.scores, state.u, state.logits), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_types_and_shapes_are_those_of_the_wire(head: Head, small: Small) -> None:
    card = small.card
    state = advanced(head, small.image(2), None, 3)
    shapes = [array.shape for array in (state.tokens, state.scores, state.u, state.logits)]
    n = card.patch_tokens
    assert shapes == [(n + 1, card.dim), (n,), (card.exit_state_dim,), (card.class_count,)]
    assert all(a.dtype == np.float32 for a in (state.tokens, state.scores, state.u, state.logits))
    assert 0.0 <= state.margin <= 1.0


def test_an_export_holds_the_codec_and_the_calibration_profile(shipped: Path) -> None:
    source = resolve("clutter")
    wanted, found = codec_arrays(source), codec_arrays(codec_of(shipped))
    assert wanted.keys() == found.keys() != set()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    profile = calibration_of(shipped)
    assert profile is not None
    assert profile.read_bytes() == calibration_of("clutter").read_bytes()
    assert not list(shipped.glob("*evaluation*"))


def test_an_export_of_somebodys_vit_holds_its_joint_codes(tmp_path: Path) -> None:
    card = {"exit_kind": "linear", "exit_state_dim": 0, "exits": (4,), "dim": 64, "heads": 1}
    made = make_small(tmp_path, 3, **card, image_size=(16, 16), channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    state = load_network(made.file)[0].state_dict()
    path = tmp_path / "vit.safetensors"
    save_file({name.removeprefix("exits.0."): value for name, value in state.items()}, path)
    save_codes(path, {"jscc.1.mean": np.ones(3, np.float32)}, {})
    export(path, tmp_path / "board", progress=False)
    assert codec_arrays(codec_of(tmp_path / "board")).keys() == {"jscc.1.mean"}


def test_an_export_into_an_old_one_leaves_nothing_of_it(small: Small, shipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    shutil.copytree(shipped, folder)
    export(small.file, folder, progress=False)
    assert load_head(folder).card == small.card
    assert calibration_of(folder) is None
    assert len(list(folder.glob("*.onnx"))) == 1 + small.card.depth + len(small.card.exits)


def test_an_export_into_one_that_was_broken_off_does_not_take_its_profile_for_its_own(
    small: Small, shipped: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    shutil.copytree(shipped, folder)
    (folder / "card.json").unlink()
    export(small.file, folder, progress=False)
    assert calibration_of(folder) is None


def test_an_export_that_does_not_answer_alike_is_refused(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from splitpoint.device import onnx_graphs

    right = onnx_graphs.block_graph
    monkeypatch.setattr(onnx_graphs, "block_graph", lambda network, card, index: right(network, card, 0))
    with pytest.raises(DataError, match="does not answer as the network does"):
        export(small.file, tmp_path / "wrong", progress=False)
    with pytest.raises(DataError, match=r"no card\.json"):
        load_head(tmp_path / "wrong")


def test_a_folder_that_mixes_two_models_is_refused(small: Small, other: Small, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(small.folder, folder)
    shutil.copy(other.folder / "block_2.onnx", folder)
    with pytest.raises(DataError, match=r"block_2\.onnx belongs to model"):
        load_head(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["a", "b"]}, r"exit_0\.onnx: logits of \[1, 5\], by the card beside it of \[1, 2\]"),
        ({"exit_state_dim": 3}, r"exit_0\.onnx: u of"),
        ({"image_size": [32, 32]}, r"embed\.onnx: image of"),
    ],
)
def test_a_card_that_was_edited_away_from_its_graphs_is_refused(
    small: Small, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "edited"
    shutil.copytree(small.folder, folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | changes))
    with pytest.raises(DataError, match=said):
        load_head(folder)


def test_broken_folders_are_one_clear_line(small: Small, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(small.folder, folder)
    (folder / "exit_1.onnx").write_bytes(b"not ONNX")
    with pytest.raises(DataError, match=r"exit_1\.onnx") as error:
        load_head(folder)
    assert "\n" not in str(error.value)
    (folder / "exit_1.onnx").unlink()
    with pytest.raises(DataError, match=r"exit_1\.onnx"):
        load_head(folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"depth": 0}))
    with pytest.raises(DataError, match=r"card\.json"):
        load_head(folder)


def test_a_folder_that_cannot_be_written_is_one_clear_line(small: Small, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write the export"):
        export(small.file, tmp_path / "file" / "exported", progress=False)


def test_a_kind_that_does_not_fit_is_refused(small: Small) -> None:
    with pytest.raises(UsageError, match="splitpoint export"):
        load_head(small.file, "onnx")
    with pytest.raises(UsageError, match="ONNX Runtime"):
        load_head(small.folder, "torch")
    with pytest.raises(UsageError, match="did you mean 'clutter'"):
        load_head("cluter")


def test_a_folder_named_like_a_built_in_model_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clutter").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_head("clutter").card.name == "clutter"
