import numpy as np
import pytest

from splitpoint.codec.image import encode_image
from splitpoint.errors import UsageError
from splitpoint.models.clutter import CANVASES, SPLIT_SIZES, canvas_split, digit_split, training_canvases


def test_splits_are_disjoint_and_have_their_sizes() -> None:
    places = {name: set(digit_split(name)[2].tolist()) for name in SPLIT_SIZES}
    assert {name: len(found) for name, found in places.items()} == SPLIT_SIZES
    assert len(set.union(*places.values())) == sum(SPLIT_SIZES.values())


@pytest.mark.parametrize("split", ["calibration", "evaluation"])
def test_canvases_of_a_split_are_the_same_every_time(split: str) -> None:
    images, labels = canvas_split(split)
    again, again_labels = canvas_split(split)
    assert images.shape == (SPLIT_SIZES[split] * CANVASES[split], 64, 64, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, again_labels)
    np.testing.assert_array_equal(labels[:: CANVASES[split]], digit_split(split)[1])
    assert not np.array_equal(images[0], images[1])  # canvases of one digit differ


def test_all_classes_are_there() -> None:
    counts = np.bincount(digit_split("evaluation")[1], minlength=10)
    assert counts.min() >= 30


def test_training_canvases_are_a_function_of_seed_and_epoch() -> None:
    images, labels = training_canvases(3, 5, 1)
    assert images.shape == (1000, 64, 64, 1)
    again, again_labels = training_canvases(3, 5, 1)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, again_labels)
    assert sorted(labels) == sorted(digit_split("train")[1])
    for other in (training_canvases(4, 5, 1), training_canvases(3, 6, 1)):
        assert not np.array_equal(images, other[0])


def test_fragments_are_what_clutters() -> None:
    bare, labels = training_canvases(0, 0, 1, fragments=0)
    full, same = training_canvases(0, 0, 1)
    np.testing.assert_array_equal(labels, same)
    bright = [(images.astype(int) > 110).mean() for images in (bare, full)]
    assert bright[1] > 1.5 * bright[0]


def test_a_canvas_costs_kilobytes() -> None:
    images, _ = canvas_split("evaluation")
    sizes = [len(encode_image(image).data) for image in images[:20]]
    assert min(sizes) > 2500
    assert max(sizes) < 5000


def test_an_unknown_split_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'evaluation'"):
        digit_split("evaluate")
