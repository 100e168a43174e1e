"""float16 on the wire: little-endian, finite, clipped to its range."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from .errors import PayloadError
from .nested import LARGEST

__all__ = ["checked_halves", "half_bytes", "read_halves", "round_to_wire"]

_FEW = 4096


def half_bytes(values: np.ndarray, field: str = "activations") -> bytes:
    """float values of any shape, not empty, row by row. PayloadError, naming `field`, where they are not finite."""
    # Two reductions and a cast, on every request's path: clipping is for what needs it.
    low, high = values.min(), values.max()
    if not (low >= -LARGEST and high <= LARGEST):
        if not (np.isfinite(low) and np.isfinite(high)):
            raise PayloadError(field, "must be finite")
        values = np.clip(values, -LARGEST, LARGEST)
    return values.astype("<f2").tobytes()


def read_halves(field: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """float32 array of `shape`. PayloadError, naming `field`, for another length or what is not finite."""
    return checked_halves(field, data, math.prod(shape)).astype(np.float32).reshape(shape)


def checked_halves(field: str, data: bytes, count: int, *, signed: bool = True) -> np.ndarray:
    """`count` values as they came, float16 (count,). PayloadError, naming `field`, for another length, what is not
    finite, or, unless `signed`, a sign.

    Few values are checked on one large integer, a lane of 16 bits each: this is on every request's path, and most of
    numpy's time would be the calls.
    """
    # In Python integers, and before anything is allocated.
    if len(data) != 2 * count:
        raise PayloadError(field, f"must have {2 * count} bytes, not {len(data)}")
    values = np.frombuffer(data, "<f2")
    if count > _FEW:
        finite, negative = bool(np.isfinite(values).all()), not signed and bool(np.signbit(values).any())
    else:
        bits = int.from_bytes(data, "little")
        exponents, one, signs = _lanes(count)
        # One more on an exponent of all ones, and only on that, reaches the sign's place.
        finite, negative = not (bits & exponents) + one & signs, not signed and bool(bits & signs)
    if not finite:
        raise PayloadError(field, "must be finite")
    if negative:
        raise PayloadError(field, "must not be negative")
    return values


@lru_cache(maxsize=256)
def _lanes(count: int) -> tuple[int, int, int]:
    """The exponents' bits of `count` float16, the lowest of each exponent, and the signs."""
    exponents, one, signs = (
        int.from_bytes(lane * count, "little") for lane in (b"\x00\x7c", b"\x00\x04", b"\x00\x80")
    )
    return exponents, one, signs


def round_to_wire(values: np.ndarray) -> np.ndarray:
    """float32 values as the other side will read them: clipped to float16's range and rounded to it."""
    return np.clip(values, -LARGEST, LARGEST).astype("<f2").astype(np.float32)
