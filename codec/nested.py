"""Nested integers: quantise once at 8 bits; the leading b bits of every code are its b-bit code.

After DQT (arXiv 2508.09176): Q_b = Q_8 >> (8 - b). Offset and scale are one a token, as float16, and a
value is reconstructed at the middle of its cell. Rounding of offset and scale is ours: the offset goes
down to the next float16 and the scale up, and codes are computed from the rounded ones, so that

    offset <= x <= offset + 256 * scale    and    |x - x'| <= scale * 2**(8 - b) / 2

hold exactly, but for the rounding of float32 arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .errors import PayloadError

__all__ = ["LARGEST", "Quantised", "dequantise", "quantise"]

LARGEST = 65504.0
"""Largest finite float16. Values beyond it are clipped: a trained network's tokens lie far inside."""

_DOWN = np.float16(-np.inf)
_UP = np.float16(np.inf)


class Quantised(NamedTuple):
    """codes uint8 (T, dims), eight bits each; offset and scale float16 (T,)."""

    codes: np.ndarray
    offset: np.ndarray
    scale: np.ndarray


def quantise(x: np.ndarray) -> Quantised:
    """Quantise tokens x, float (T, dims), each over its own range. PayloadError if a value is not finite."""
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 2 or x.size == 0:
        raise PayloadError("tokens", f"must have shape (T, dims), not {x.shape}")
    low, high = x.min(axis=1), x.max(axis=1)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise PayloadError("tokens", "must be finite")
    if low.min() < -LARGEST or high.max() > LARGEST:
        x = np.clip(x, -LARGEST, LARGEST)
        low, high = x.min(axis=1), x.max(axis=1)
    offset = low.astype(np.float16)
    with np.errstate(over="ignore"):  # the neighbours of values that need none may be infinite
        below = np.nextafter(offset, _DOWN)
    offset = np.where(offset.astype(np.float32) > low, below, offset)
    start = offset.astype(np.float32)
    width = (high - start) / np.float32(256.0)
    scale = width.astype(np.float16)
    scale = np.where(scale.astype(np.float32) < width, np.nextafter(scale, _UP), scale)
    step = scale.astype(np.float32)
    # A constant token has step 0 and codes 0: its offset says it all.
    cells = (x - start[:, None]) / np.where(step > 0.0, step, np.float32(1.0))[:, None]
    codes = np.minimum(cells, np.float32(255.0)).astype(np.uint8)
    return Quantised(codes, offset, scale)


def dequantise(codes: np.ndarray, offset: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """Values at the middle of their cells, float32 (T, dims).

    codes          uint8 (T, dims), `bits` wide: `quantise(x).codes >> (8 - bits)`
    offset, scale  float16 (T,)
    bits           1..8
    """
    if not 1 <= bits <= 8:
        raise PayloadError("tokens.bits", f"must be in 1..8, not {bits}")
    cell = scale.astype(np.float32)[:, None] * np.float32(1 << (8 - bits))
    values: np.ndarray = codes.astype(np.float32)
    values += np.float32(0.5)
    values *= cell
    values += offset.astype(np.float32)[:, None]
    return values
