"""Bit planes: the p-th most significant bit of every code, packed eight to a byte.

    codes (N,) 8 bits each --> plane 0 (all highest bits) | plane 1 | ... | plane 7, ceil(N / 8) bytes each

Any prefix of the planes decodes, and more may follow. Within a byte the first code's bit comes first
(most significant); spare bits of the last byte are zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import PayloadError

__all__ = ["check_planes", "pack_planes", "plane_bytes", "plane_matrix", "unpack_planes"]

_WORKING_BYTES = 1 << 17


def plane_bytes(count: int) -> int:
    """Bytes of one packed plane of `count` codes."""
    return (count + 7) // 8


def plane_matrix(codes: np.ndarray) -> np.ndarray:
    """Bits of 8-bit codes, most significant plane first: uint8 (8, N) of zeros and ones."""
    return np.unpackbits(codes.reshape(1, -1), axis=0)


def pack_planes(codes: np.ndarray, first: int, stop: int) -> list[bytes]:
    """Planes first..stop-1 of 8-bit codes (any shape, taken row by row), 0 <= first <= stop <= 8."""
    if not 0 <= first <= stop <= 8:
        raise PayloadError("tokens.bits", f"planes {first}..{stop} do not lie in 0..8")
    packed = np.packbits(plane_matrix(codes)[first:stop], axis=1).tobytes()
    size = plane_bytes(codes.size)
    return [packed[at : at + size] for at in range(0, len(packed), size)]


def check_planes(planes: Sequence[bytes], count: int) -> None:
    """PayloadError naming `tokens.planes` unless there are 1 to 8, each as long as `count` bits are packed."""
    if not 1 <= len(planes) <= 8:
        raise PayloadError("tokens.planes", f"must be 1 to 8 planes, not {len(planes)}")
    size = plane_bytes(count)
    for place, plane in enumerate(planes):
        if len(plane) != size:
            raise PayloadError("tokens.planes", f"[{place}] must have {size} bytes, not {len(plane)}")


def unpack_planes(planes: Sequence[bytes], count: int) -> np.ndarray:
    """Leading planes of `count` codes to codes of len(planes) bits, uint8 (count,).

    Raises PayloadError as `check_planes`.
    """
    check_planes(planes, count)
    bits, size = len(planes), plane_bytes(count)
    # Eight codes at a time in one 64-bit word: doubling never carries into the neighbour. Many times as fast
    # as packing bits over the planes' axis. Some planes at a time: the words of all would not fit the cache.
    together = max(1, _WORKING_BYTES // max(1, 8 * size))
    codes = None
    for start in range(0, bits, together):
        some = np.frombuffer(b"".join(planes[start : start + together]), np.uint8)
        for plane in np.unpackbits(some).view(np.uint64).reshape(-1, size):
            if codes is None:
                codes = plane
            else:
                codes += codes
                codes += plane
    assert codes is not None
    return codes.view(np.uint8)[:count]
