"""What names a model's arrays on the wire, where the model's id does not cover them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

__all__ = ["arrays_crc"]


def arrays_crc(arrays: Mapping[str, np.ndarray], kind: str) -> int:
    """CRC-32 of names and values, by name, the values as numpy's `kind`, "<u2" say; 0 without any array."""
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].astype(kind, copy=False).tobytes(), zlib.crc32(name.encode(), crc))
    return crc
