"""Nested integers: quantise once at 8 bits; the leading b bits of every code are its b-bit code.

After DQT (arXiv 2508.09176): Q_b = Q_8 >> (8 - b). Offset and scale are float16, and a value is reconstructed at
the middle of its cell. Rounding of offset and scale is ours: the offset goes down to the next float16 and the
scale up, and codes are computed from the rounded ones, so that

    offset <= x <= offset + 256 * scale    and    |x - x'| <= scale * 2**(8 - b) / 2

hold exactly, but for the rounding of float32 arithmetic.

A token has its own range, or all share one, which is ours too: naming a range costs 32 bits a token, and one that is
r times as wide costs log2(r) bits a value for cells as fine. So they share it where

    r**dims <= 2**32,    r = shared width / root mean square of the tokens' own
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .errors import PayloadError, check_within

__all__ = ["LARGEST", "NAMING_BITS", "Quantised", "dequantise", "quantise"]

LARGEST = 65504.0
"""Largest finite float16. Values beyond it are clipped: a trained network's tokens lie far inside."""

NAMING_BITS = 32.0
"""What offset and scale of one token cost."""

_DOWN = np.float16(-np.inf)
_UP = np.float16(np.inf)


class Quantised(NamedTuple):
    """codes uint8 (T, dims), eight bits each; offset and scale float16 (T,), or (1,) where the range is shared.

    rest: patches that the second token stands for; 0 where it is a patch like the others.
    """

    codes: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    rest: int = 0


def quantise(x: np.ndarray) -> Quantised:
    """Quantise tokens x, float (T, dims), over their own ranges or a shared one. PayloadError if not finite."""
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 2 or x.size == 0:
        raise PayloadError("tokens", f"must have shape (T, dims), not {x.shape}")
    low, high = np.minimum.reduce(x, axis=1), np.maximum.reduce(x, axis=1)
    least, most = np.minimum.reduce(low), np.maximum.reduce(high)
    if not (least >= -LARGEST and most <= LARGEST):
        if not np.isfinite(x).all():
            raise PayloadError("tokens", "must be finite")
        return quantise(np.clip(x, -LARGEST, LARGEST))
    if _shared(low, high, float(most) - float(least), x.shape[1]):
        low, high = least[None], most[None]
    offset = low.astype(np.float16)
    start = offset.astype(np.float32)
    np.nextafter(offset, _DOWN, out=offset, where=start > low)
    start = offset.astype(np.float32)
    width = (high - start) / np.float32(256.0)
    scale = width.astype(np.float16)
    np.nextafter(scale, _UP, out=scale, where=scale.astype(np.float32) < width)
    step = scale.astype(np.float32)
    # A constant token has step 0 and codes 0: its offset says it all.
    step[step == 0.0] = 1.0
    cells = x - start[:, None]
    cells /= step[:, None]
    np.minimum(cells, np.float32(255.0), out=cells)
    return Quantised(cells.astype(np.uint8), offset, scale)


def _shared(low: np.ndarray, high: np.ndarray, span: float, dims: int) -> bool:
    """Whether tokens of these ends (T,), `span` wide together, had better share one range; squares of float16's span
    fit a float32."""
    own = high - low
    return span * span * low.size <= float(own @ own) * 4.0 ** (NAMING_BITS / dims)


def dequantise(codes: np.ndarray, offset: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """Values at the middle of their cells, float32 (T, dims).

    codes          uint8 (T, dims), `bits` wide: `quantise(x).codes >> (8 - bits)`
    offset, scale  float16 (T,), or (1,) for all tokens
    bits           1..8
    """
    check_within("tokens.bits", bits, 1, 8)
    cell = scale.astype(np.float32)[:, None] * np.float32(1 << (8 - bits))
    values: np.ndarray = codes.astype(np.float32)
    values += np.float32(0.5)
    values *= cell
    values += offset.astype(np.float32)[:, None]
    return values
