"""`clutter`: a handwritten digit somewhere on a canvas among fragments of other digits and sensor noise.

The digits are scikit-learn's (8x8, real handwriting), split once by a fixed seed; a canvas uses digits of
its own split only, its fragments included. The answer lies in a few of the canvas's patches, and the noise
makes a losslessly compressed canvas cost kilobytes. Everything is a function of a seed; nothing is
downloaded.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtra, UsageError, did_you_mean
from ..seeding import generator

__all__ = [
    "CANVAS",
    "CANVASES",
    "FRAGMENTS",
    "SPLIT_SIZES",
    "canvas_split",
    "canvases",
    "digit_split",
    "training_canvases",
]

CANVAS = 64
"""Side of a canvas in pixels."""
SPLIT_SIZES = {"train": 1000, "calibration": 297, "evaluation": 500}
"""Digits in each split; disjoint."""
CANVASES = {"train": 1, "calibration": 3, "evaluation": 2}
"""Canvases made of each digit."""
FRAGMENTS = 9
"""Fragments of other digits on a canvas."""

_SEED = 20261121
_ENLARGED = 32
_BORDER = 4
_WINDOW = 12


def _cubic(samples: int, points: int) -> NDArray[np.float32]:
    """(points, samples) Catmull-Rom interpolation of `samples` values, zero outside them."""
    at = (np.arange(points) + 0.5) * samples / points - 0.5
    t = np.abs(at[:, None] - np.arange(samples)[None, :])
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0.0)).astype(np.float32)


@lru_cache(maxsize=1)
def _all_digits() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtra("the data set clutter", "sim") from error
    raw = load_digits()
    weights = _cubic(8, _ENLARGED)
    large = np.clip(np.einsum("pi,nij,qj->npq", weights, raw.images.astype(np.float32) / 16, weights), 0, 1)
    large = np.pad(large, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER)))
    order = generator(_SEED, "clutter-splits").permutation(len(large))
    return large.astype(np.float32), raw.target.astype(np.int64), order.astype(np.int64)


def digit_split(split: str) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Digits of one split, with labels (N,) and places in the source (N,).

    The digits are enlarged, float32 (N, 40, 40) in [0, 1]. UsageError for an unknown split.
    """
    if split not in SPLIT_SIZES:
        raise UsageError(f"clutter has no split '{split}'; {did_you_mean(split, SPLIT_SIZES)}")
    large, labels, order = _all_digits()
    start = 0
    for name, size in SPLIT_SIZES.items():
        if name == split:
            break
        start += size
    chosen = order[start : start + SPLIT_SIZES[split]]
    return large[chosen], labels[chosen], chosen


def _sample(
    digits: NDArray[np.float32],
    which: NDArray[np.int64],
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Bilinear values of digits[which[b]] at rows, columns (B, P, P); zero outside."""
    side = digits.shape[-1]
    r = np.clip(rows, 0, side - 1.001)
    c = np.clip(columns, 0, side - 1.001)
    r0, c0 = r.astype(np.int64), c.astype(np.int64)
    fr, fc = r - r0, c - c0
    flat = digits.reshape(-1)
    at = which[:, None, None] * (side * side) + r0 * side + c0
    top = flat[at] * (1 - fc) + flat[at + 1] * fc
    bottom = flat[at + side] * (1 - fc) + flat[at + side + 1] * fc
    return top * (1 - fr) + bottom * fr


def _stamp(
    canvas: NDArray[np.float32], block: NDArray[np.float32], y: NDArray[np.int64], x: NDArray[np.int64]
) -> None:
    """canvas[b, y_b:, x_b:] = max(itself, block[b]), cut at the canvas's border."""
    side = canvas.shape[-1]
    ys = y[:, None] + np.arange(block.shape[1])
    xs = x[:, None] + np.arange(block.shape[2])
    inside = ((ys >= 0) & (ys < side))[:, :, None] & ((xs >= 0) & (xs < side))[:, None, :]
    b, i, j = np.nonzero(inside)
    here = canvas[b, ys[b, i], xs[b, j]]
    canvas[b, ys[b, i], xs[b, j]] = np.maximum(here, block[b, i, j])


def canvases(
    digits: NDArray[np.float32],
    which: NDArray[np.int64],
    rng: np.random.Generator,
    augment: bool = False,
    fragments: int = FRAGMENTS,
) -> NDArray[np.uint8]:
    """One canvas for each of `which`; uint8 (B, 64, 64, 1).

    The digit is 20 to 26 px, wholly on the canvas; 9 fragments of 6 to 12 px, of other digits of the same
    array, keep away from it where they can. `augment` also rotates, shears and stretches the digit a little.
    """
    count = len(which)
    size = rng.uniform(20, 26, count)
    angle, shear = rng.uniform(-1, 1, (2, count))
    stretch = rng.uniform(-0.12, 0.12, (2, count))
    if augment:
        angle, shear = angle * 0.24, shear * 0.2
    else:
        angle, shear, stretch = angle * 0.05, shear * 0.0, stretch * 0.0
    top, left = rng.integers(0, CANVAS - 26 + 1, (2, count))
    strength = rng.uniform(0.65, 0.95, count).astype(np.float32)

    canvas = np.zeros((count, CANVAS, CANVAS), dtype=np.float32)
    for _ in range(fragments):
        other = (which + rng.integers(1, len(digits), count)) % len(digits)
        tries = rng.integers(-2, CANVAS - 6, (2, 6, count))
        overlap = np.clip(14 - np.abs(tries[0] + 6 - top - 13), 0, None) * np.clip(
            14 - np.abs(tries[1] + 6 - left - 13), 0, None
        )
        best = np.argmin(overlap, axis=0)
        y, x = tries[0, best, np.arange(count)], tries[1, best, np.arange(count)]
        scale = (_ENLARGED / rng.uniform(20, 26, count)).astype(np.float32)[:, None, None]
        centre = (rng.uniform(0.3, 0.7, (2, count)) * digits.shape[-1]).astype(np.float32)[:, :, None, None]
        grid = np.arange(_WINDOW, dtype=np.float32) - (_WINDOW - 1) / 2
        window = rng.uniform(3, _WINDOW / 2, (2, count))
        inside = (np.abs(grid)[None, :, None] < window[0][:, None, None]) & (
            np.abs(grid)[None, None, :] < window[1][:, None, None]
        )
        rows = centre[0] + scale * grid[None, :, None] + np.zeros((1, 1, _WINDOW), np.float32)
        columns = centre[1] + scale * grid[None, None, :] + np.zeros((1, _WINDOW, 1), np.float32)
        level = rng.uniform(0.5, 0.95, count).astype(np.float32)[:, None, None]
        _stamp(canvas, _sample(digits, other, rows, columns) * inside * level, y, x)

    grid = np.arange(_ENLARGED, dtype=np.float32) - (_ENLARGED - 1) / 2
    gy, gx = grid[None, :, None], grid[None, None, :]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    zoom = (_ENLARGED / size)[:, None, None]
    centre_at = (digits.shape[-1] - 1) / 2
    rows = centre_at + zoom * (1 + stretch[0])[:, None, None] * (cos * gy - sin * gx)
    columns = centre_at + zoom * (1 + stretch[1])[:, None, None] * (
        sin * gy + cos * gx + shear[:, None, None] * gy
    )
    block = _sample(digits, which, rows.astype(np.float32), columns.astype(np.float32))
    shift = (_ENLARGED - 26) // 2
    _stamp(canvas, block * strength[:, None, None], top - shift, left - shift)

    background = rng.uniform(20, 50, count).astype(np.float32)[:, None, None]
    noise = rng.standard_normal(canvas.shape, dtype=np.float32) * 11
    pixels = background + canvas * (245 - background) + noise
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)[..., None]


def canvas_split(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The fixed canvases of one split: uint8 (N, 64, 64, 1) and labels int64 (N,).

    Canvas i shows the split's digit i // CANVASES[split].
    """
    digits, labels, _ = digit_split(split)
    which = np.repeat(np.arange(len(digits)), CANVASES[split])
    return canvases(digits, which, generator(_SEED, f"clutter-{split}")), labels[which]


def training_canvases(
    seed: int, epoch: int, per_digit: int, fragments: int = FRAGMENTS
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Fresh augmented canvases of the training digits, shuffled: a function of (seed, epoch)."""
    digits, labels, _ = digit_split("train")
    rng = generator(seed, "clutter-training", epoch)
    which = rng.permutation(np.repeat(np.arange(len(digits)), per_digit))
    parts = [
        canvases(digits, part, rng, True, fragments)
        for part in np.array_split(which, max(1, len(which) // 500))
    ]
    return np.concatenate(parts), labels[which]
