"""What a training sees: views of the training samples, fresh in every epoch, and the held-out splits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..seeding import generator
from . import clutter
from .data import Dataset, load_data

__all__ = ["ClutterData", "StoredData", "TrainingData", "identity_on"]

_Views = tuple[NDArray[np.uint8], NDArray[np.int64]]


class TrainingData(Protocol):
    """Source of one training.

    identity    tells somebody's own data from others; "" for a named set, which is always the same
    held_out    the calibration split, looked at after each epoch
    evaluation  the split whose accuracy the model card reports; looked at once, at the end
    """

    @property
    def identity(self) -> str: ...

    @property
    def held_out(self) -> Dataset: ...
    @property
    def evaluation(self) -> Dataset: ...

    def epoch(self, index: int) -> _Views:
        """Shuffled augmented images uint8 (N, H, W, C) and labels (N,), a function of (seed, index)."""
        ...


def identity_on(config: str, data: TrainingData) -> str:
    """The identity of a checkpoint: `config`'s own text, and which data were trained on where that is not plain."""
    return f"{config} on {data.identity}" if data.identity else config


class ClutterData:
    """Fresh canvases of the thousand training digits, `views` of each in an epoch.

    ramp  epochs over which the fragments on a canvas become more, from none to all: among all of them from
          the start a network learns nothing for a long time
    """

    identity = ""

    def __init__(self, seed: int, views: int, ramp: int) -> None:
        self.seed, self.views, self.ramp = seed, views, ramp
        self.held_out = load_data("clutter", "calibration")
        self.evaluation = load_data("clutter", "evaluation")

    def fragments(self, index: int) -> int:
        return clutter.FRAGMENTS if index >= self.ramp else clutter.FRAGMENTS * index // self.ramp

    def epoch(self, index: int) -> _Views:
        return clutter.training_canvases(self.seed, index, self.views, self.fragments(index))


def _cropped(
    images: NDArray[np.uint8], rng: np.random.Generator, border: int, flip: bool
) -> NDArray[np.uint8]:
    """Each image moved by up to `border` pixels, its edge mirrored, and with `flip` turned left to right or not."""
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
    top, left = rng.integers(0, 2 * border + 1, (2, count))
    rows = (top[:, None] + np.arange(height))[:, :, None]
    flipped = rng.integers(0, 2, (count, 1))
    columns = np.where(flipped & flip, np.arange(width)[::-1], np.arange(width))
    return padded[np.arange(count)[:, None, None], rows, (left[:, None] + columns)[:, None, :]]


def _toned(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast and colour of each image changed a little."""
    count = len(images)
    gain = rng.uniform(0.8, 1.25, (count, 1, 1, 1)).astype(np.float32)
    tint = rng.uniform(0.92, 1.08, (count, 1, 1, images.shape[3])).astype(np.float32)
    shift = rng.uniform(-20, 20, (count, 1, 1, 1)).astype(np.float32)
    mean = images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    toned = (images - mean) * (gain * tint) + (mean + shift)
    return np.clip(np.rint(toned), 0, 255).astype(np.uint8)


def _holed(images: NDArray[np.uint8], rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """A square of `side` pixels, one more where that is even, of each second image on average, in its mean colour
    (cutout)."""
    count, height, width, _ = images.shape
    centre = rng.integers(0, (height, width), (count, 2))
    inside = [
        np.abs(np.arange(extent)[None, :] - centre[:, axis, None]) * 2 <= side
        for axis, extent in enumerate((height, width))
    ]
    hole = inside[0][:, :, None] & inside[1][:, None, :] & (rng.integers(0, 2, (count, 1, 1)) == 1)
    fill = images.mean(axis=(1, 2), keepdims=True).astype(np.uint8)
    return np.where(hole[..., None], fill, images)


class StoredData:
    """Every stored training image once an epoch: moved and flipped, toned, with a square cut out.

    train     the images as they are stored
    light     moved and flipped only, for trainings of so few epochs that nothing is learnt by heart
    flip      False where a mirror image is something else, as with digits
    identity  as of `TrainingData`
    """

    def __init__(
        self,
        seed: int,
        load: Callable[[str], Dataset],
        *,
        light: bool = False,
        flip: bool = True,
        identity: str = "",
    ) -> None:
        self.seed, self.light, self.flip, self.identity = seed, light, flip, identity
        self.train, self.held_out, self.evaluation = (
            load(split) for split in ("train", "calibration", "evaluation")
        )

    def epoch(self, index: int) -> _Views:
        rng = generator(self.seed, "training-views", index)
        order = rng.permutation(len(self.train))
        images = self.train.images[order]
        side = min(images.shape[1:3])
        views = []
        for part in np.array_split(images, max(1, len(images) // 500)):
            moved = _cropped(part, rng, side // 8, self.flip)
            views.append(moved if self.light else _holed(_toned(moved, rng), rng, side // 4))
        return np.concatenate(views), self.train.labels[order]
