"""Profiles: what is measured is what a single request gives; files, grids, and the two jobs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from splitpoint.codec.image import decode_image, encode_image
from splitpoint.codec.requests import build_request, exit_state_message, read_exit_state
from splitpoint.codec.tokens import TokenCodec
from splitpoint.errors import DataError, GridError, UsageError
from splitpoint.models.data import Dataset
from splitpoint.models.grid import Grid
from splitpoint.models.measure import images_id, measure, measure_file
from splitpoint.models.preprocess import normalise
from splitpoint.models.profile import Profile, Refined
from splitpoint.models.recursion import margin, prediction, running_logits
from splitpoint.models.store import codec_arrays, load_network

GRID = Grid((0, 1, 2, 3), (1.0, 0.25), (16, 5), (8, 3), refine_keeps=(1.0, 0.5))


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 16, 24, 3)).astype(np.uint8)
    return Dataset(images, rng.integers(0, 4, 9), ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def profile(tiny_file: Path, data: Dataset) -> Profile:
    return measure(tiny_file, data, "calibration", grid=GRID, batch=4, progress=False)


@torch.inference_mode()
def _direct(
    path: Path, image: np.ndarray, cut: int, keep: float, dims: int, bits: int
) -> tuple[list, list, int]:
    """One request by hand: predictions and margins at every exit, bytes."""
    network, card = load_network(path)
    codec = TokenCodec(codec_arrays(path))
    predictions, margins = [], []
    u = qbar = keys = None
    x, at, passed, scores = network.embed(torch.from_numpy(normalise(image[None], card))), 0, 0, None

    def take(index: int) -> None:
        nonlocal u, qbar
        q, u = network.exit(x, index, u)
        qbar = running_logits(qbar, q[0].numpy())
        predictions.append(int(prediction(qbar)))
        margins.append(float(margin(qbar)))

    while at < cut:
        x, scores = network.run(x, at, at + 1)
        at += 1
        if at in card.exits:
            take(card.exits.index(at))
            passed += 1
    state = None
    if passed:
        state = exit_state_message(u[0].numpy(), qbar, passed, margins[-1])
        read = read_exit_state(state, card.exit_state_dim, card.class_count, len(card.exits))
        u, qbar = torch.from_numpy(read.u)[None], read.logits
    if cut:
        payload, _ = codec.encode(x[0].numpy(), scores[0].numpy(), cut, keep, dims, bits)
        x = torch.from_numpy(codec.decode(payload, cut))[None]
        if payload.rest:
            keys = torch.tensor([[1.0, payload.rest] + [1.0] * (payload.count - 2)])
    else:
        payload = encode_image(image)
        sent = decode_image(payload, image.shape)
        x = network.embed(torch.from_numpy(normalise(sent[None], card)))
    request = build_request(
        model_id=card.id,
        request_id=9,
        cut=cut,
        deadline_s=0.2,
        exit_margin=0.7,
        payload=payload,
        exit_state=state,
    )
    while at < card.depth:
        x, _ = network.run(x, at, at + 1, keys)
        at += 1
        if at in card.exits:
            take(card.exits.index(at))
    return predictions, margins, request.ByteSize()


def test_a_profile_says_what_single_requests_give(profile: Profile, data: Dataset, tiny_file: Path) -> None:
    rng = np.random.default_rng(1)
    for g in rng.permutation(len(GRID.points()))[:14]:
        cut, keep, dims, bits = GRID.points()[g]
        sample = int(rng.integers(len(data)))
        predictions, margins, nbytes = _direct(tiny_file, data.images[sample], cut, keep, dims, bits)
        assert profile.config(cut, keep, dims, bits) == g
        assert profile.tail_prediction[g, sample].tolist() == predictions
        np.testing.assert_allclose(profile.tail_margin[g, sample], margins, atol=1e-5)
        assert profile.request_bytes[g, sample] == nbytes


def test_the_head_has_every_exit_uncompressed(profile: Profile, data: Dataset, tiny_file: Path) -> None:
    network, card = load_network(tiny_file)
    with torch.inference_mode():
        logits = network(torch.from_numpy(normalise(data.images, card)))
    qbar = None
    for index, q in enumerate(logits):
        qbar = running_logits(qbar, q.numpy())
        np.testing.assert_array_equal(profile.head_prediction[:, index], prediction(qbar))
        np.testing.assert_allclose(profile.head_margin[:, index], margin(qbar), atol=1e-5)
    assert profile.block_time_s.shape == (card.depth + 1,)
    assert profile.block_time_s.min() > 0
    assert profile.exit_time_s.min() > 0


def test_exits_before_the_cut_repeat_the_head(profile: Profile) -> None:
    g = profile.config(3, 0.25, 5, 3)
    np.testing.assert_array_equal(profile.tail_margin[g, :, :2], profile.head_margin[:, :2])
    np.testing.assert_array_equal(profile.tail_prediction[g, :, :2], profile.head_prediction[:, :2])
    assert not np.array_equal(profile.tail_margin[g, :, 2], profile.head_margin[:, 2])


def test_tokens_and_bytes_follow_the_grid(profile: Profile) -> None:
    assert (profile.tokens[profile.config(0)] == 25).all()
    assert (profile.tokens[profile.config(1, 1.0, 16, 8)] == 25).all()
    assert (profile.tokens[profile.config(1, 0.25, 16, 8)] == 7).all()
    assert (profile.tokens[profile.config(2, 0.25, 16, 8)] == 8).all()  # with a rest token
    sizes = [
        profile.request_bytes[profile.config(2, *rest)] for rest in ((1.0, 0, 8), (0.25, 16, 8), (0.25, 5, 3))
    ]
    assert sizes[0].min() > sizes[1].max()
    assert sizes[1].min() > sizes[2].max()
    assert profile.reply_bytes < 60


def test_refinements_say_what_both_messages_give(profile: Profile) -> None:
    found, index = profile.refinement(1, 0.25, 1.0, 0, 8)
    assert len(found.prediction) == len(profile.grid.refinements(profile.card)) == 3 * 2 * 2 * 2
    # At eight bits, what came in two parts is what came in one, but for the parts' ranges.
    whole = profile.config(1, 1.0, 0, 8)
    np.testing.assert_allclose(found.margin[index], profile.tail_margin[whole], atol=0.02)
    assert (found.tokens[index] == profile.tokens[whole]).all()
    np.testing.assert_array_equal(found.margin[index, :, :1], profile.head_margin[:, :1])
    less, place = profile.refinement(2, 0.25, 0.5, 5, 3)
    assert (less.tokens[place] == 1 + 1 + 12).all()  # with a rest token
    assert less.nbytes[place].max() < found.nbytes[index].min()
    assert (
        profile.refinement(2, 0.25, 1.0, 5, 3)[0].tokens[profile.refinement(2, 0.25, 1.0, 5, 3)[1]] == 25
    ).all()
    with pytest.raises(GridError, match=r"refine_keep 0\.75 is not on the profile's grid: 1, 0\.5"):
        profile.refinement(2, 0.25, 0.75, 5, 3)
    with pytest.raises(GridError, match=r"keep 0\.75 is not"):
        profile.refinement(2, 0.75, 1.0, 5, 3)


def test_dims_zero_is_all_and_cut_zero_ignores_the_rest(profile: Profile) -> None:
    assert profile.config(2, 0.25, 0, 3) == profile.config(2, 0.25, 16, 3)
    assert profile.config(0, 0.123, 7, 1) == profile.config(0)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((4, 1.0, 0, 8), "split 4 is not on the profile's grid: 0, 1, 2, 3"),
        ((1, 0.3, 0, 8), "keep 0.3 is not on the profile's grid: 1, 0.25"),
        ((1, 1.0, 6, 8), "dims 6 is not on the profile's grid: 16, 5"),
        ((1, 1.0, 0, 4), "bits 4 is not on the profile's grid: 8, 3"),
    ],
)
def test_off_the_grid_names_the_grid(profile: Profile, asked: tuple[int, float, int, int], said: str) -> None:
    with pytest.raises(GridError, match=said):
        profile.config(*asked)


def test_a_saved_profile_is_the_same(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path / "p.npz")
    loaded = Profile.load(tmp_path / "p.npz")
    for name in vars(profile):
        if not name.startswith("_"):
            before, after = getattr(profile, name), getattr(loaded, name)
            if isinstance(before, np.ndarray):
                np.testing.assert_array_equal(before, after, err_msg=name)
                assert before.dtype == after.dtype, name
            elif name == "refined":
                for one, other in zip(before, after, strict=True):
                    np.testing.assert_array_equal(one, other)
                    assert one.dtype == other.dtype
            else:
                assert before == after, name
    assert [p.name for p in tmp_path.iterdir()] == ["p.npz"]


def test_one_profile_is_not_used_for_the_others_job(profile: Profile) -> None:
    profile.require("calibration")
    profile.require("calibration", "packed")
    with pytest.raises(
        UsageError, match="calibration profile of tiny: engines look answers up in the evaluation"
    ):
        profile.require("evaluation")
    evaluation = replace(profile, split_name="evaluation")
    with pytest.raises(UsageError, match="policies, thresholds and training read the calibration"):
        evaluation.require("calibration")
    with pytest.raises(UsageError, match="coder 'packed', not 'ans'"):
        evaluation.require("evaluation", "ans")


def test_files_that_are_no_profiles_are_named(tmp_path: Path, profile: Profile) -> None:
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(DataError, match=f"{name} is not a profile"):
            Profile.load(tmp_path / name)
    with pytest.raises(DataError, match="cannot read the profile"):
        Profile.load(tmp_path / "absent.npz")
    with pytest.raises(DataError, match="cannot write the profile"):
        profile.save(tmp_path / "no" / "folder.npz")


@pytest.mark.parametrize(
    "name",
    ["labels", "head_prediction", "tail_prediction", "request_bytes", "tokens", "block_time_s", "exit_time_s"]
    + [f"refined_{name}" for name in Refined._fields],
)
def test_a_file_that_lacks_some_values_is_no_profile(profile: Profile, tmp_path: Path, name: str) -> None:
    profile.save(tmp_path / "whole.npz")
    arrays = dict(np.load(tmp_path / "whole.npz"))
    np.savez(tmp_path / "part.npz", **(arrays | {name: arrays[name][:-1]}))
    with pytest.raises(DataError, match=r"part\.npz is not a profile"):
        Profile.load(tmp_path / "part.npz")


def test_measuring_refuses_what_does_not_fit(tiny_file: Path, data: Dataset) -> None:
    wrong = Dataset(data.images[:, :8], data.labels, data.classes)
    with pytest.raises(DataError, match="takes"):
        measure(tiny_file, wrong, "calibration", grid=GRID, progress=False)
    with pytest.raises(UsageError, match="did you mean 'packed'"):
        measure(tiny_file, data, "calibration", grid=GRID, coder="paked", progress=False)
    with pytest.raises(UsageError, match="tables"):
        measure(tiny_file, data, "calibration", grid=GRID, coder="ans", progress=False)
    with pytest.raises(UsageError, match="grid's dims"):
        measure(tiny_file, data, "calibration", grid=replace(GRID, dims=(17,)), progress=False)
    for changes in (
        {"refine_keeps": (1.5,)},
        {"refine_keeps": (0.25,)},
        {"refine_keeps": (1.0, 0.25)},
        {"refine_keeps": (0.5, 0.5)},
        {"cuts": (0,)},
    ):
        with pytest.raises(UsageError, match="grid's refine_keeps"):
            measure(tiny_file, data, "calibration", grid=replace(GRID, **changes), progress=False)


def test_a_profile_of_ones_own_images_lands_beside_the_model(
    tiny_file: Path, data: Dataset, tmp_path: Path
) -> None:
    from PIL import Image

    for index, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        (tmp_path / "abcd"[label]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "abcd"[label] / f"{index}.png")
    path = measure_file(tiny_file, "evaluation", tmp_path, keeps=[0.5], dims=[4], bits=[2])
    assert path == tiny_file.with_name("tiny.evaluation.npz")
    loaded = Profile.load(path)
    assert (loaded.cuts, loaded.keeps, loaded.dims, loaded.bits) == ((0, 1, 2, 3), (0.5,), (4,), (2,))
    assert sorted(loaded.labels) == sorted(data.labels)
    assert len(images_id(data)) == 16
    with pytest.raises(
        DataError, match=r"tiny\.evaluation\.npz was measured on the same images: give the calibration"
    ):
        measure_file(tiny_file, "calibration", tmp_path, keeps=[0.5], dims=[4], bits=[2])
    assert not tiny_file.with_name("tiny.calibration.npz").exists()
    half = measure_file(
        tiny_file, "calibration", tmp_path, keeps=[0.5], dims=[4], bits=[2], samples=len(data) // 2
    )
    # Not those of the first classes alone: a folder lists class after class.
    assert Profile.load(half).labels.tolist() == np.sort(data.labels)[[0, 2, 4, 6]].tolist()
