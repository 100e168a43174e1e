"""Entropy coding of bit planes; a first version that only packs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..protos import splitpoint_pb2 as pb
from .planes import pack_planes, unpack_planes

__all__ = ["CodeTables", "available_coders", "decode_planes", "encode_planes"]


def available_coders() -> tuple[pb.Coder.ValueType, ...]:
    """Coders that this installation has; bit packing is always among them."""
    return (pb.CODER_PACKED,)


class CodeTables:
    """Integer tables of one cut."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def encode_planes(codes: np.ndarray, first: int, stop: int, tables: CodeTables) -> list[bytes]:
    """Planes first..stop-1 of 8-bit codes (T, dims)."""
    return pack_planes(codes, first, stop)


def decode_planes(planes: Sequence[bytes], rows: int, dims: int, tables: CodeTables) -> np.ndarray:
    """Codes of len(planes) bits, uint8 (rows * dims,)."""
    return unpack_planes(planes, rows * dims)
