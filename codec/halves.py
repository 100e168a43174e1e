"""float16 on the wire: little-endian, finite, clipped to its range."""

from __future__ import annotations

import math

import numpy as np

from .errors import PayloadError
from .nested import LARGEST

__all__ = ["half_bytes", "read_halves", "round_to_wire"]


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
    # In Python integers, and before anything is allocated.
    wanted = 2 * math.prod(shape)
    if len(data) != wanted:
        raise PayloadError(field, f"must have {wanted} bytes, not {len(data)}")
    values = np.frombuffer(data, "<f2").astype(np.float32).reshape(shape)
    if not np.isfinite(values).all():
        raise PayloadError(field, "must be finite")
    return values


def round_to_wire(values: np.ndarray) -> np.ndarray:
    """float32 values as the other side will read them: clipped to float16's range and rounded to it."""
    return np.clip(values, -LARGEST, LARGEST).astype("<f2").astype(np.float32)
