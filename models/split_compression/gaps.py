"""Which values of a sample were kept, as few bytes as a library gives: gaps between them, Huffman-coded.

Kept positions of every sample rise; the gap before each (one less than the step, positions before the first
counted) is a byte, 255 meaning "255 more, and on". With the fraction p kept at random the gaps are geometric,
and deflate's Huffman code comes within a few hundredths of the entropy of p a value.
"""

from __future__ import annotations

import zlib

import numpy as np

from ...codec.errors import PayloadError

__all__ = ["pack_positions", "unpack_positions"]

_ESCAPE = 255


def pack_positions(positions: np.ndarray) -> bytes:
    """Rising positions int (B, k), each row for itself, as bytes."""
    gaps = np.diff(positions, axis=1, prepend=-1) - 1
    escapes, rest = np.divmod(gaps.reshape(-1), _ESCAPE)
    # Each gap is its escapes and then what is left.
    stream = np.full(int(escapes.sum()) + len(rest), _ESCAPE, np.uint8)
    stream[np.cumsum(escapes + 1) - 1] = rest
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(stream.tobytes()) + packer.flush()


def unpack_positions(data: bytes, rows: int, kept: int, length: int) -> np.ndarray:
    """int64 (rows, kept) positions below `length`. PayloadError (field `indices`) for anything else."""
    most = rows * (kept + length // _ESCAPE + 1)
    unpacker = zlib.decompressobj(-15)
    try:
        stream = np.frombuffer(unpacker.decompress(data, most + 1), np.uint8)
    except zlib.error:
        raise PayloadError("indices", "cannot be unpacked") from None
    ends = np.flatnonzero(stream != _ESCAPE)
    if not unpacker.eof or unpacker.unused_data or len(stream) > most or len(ends) != rows * kept:
        raise PayloadError("indices", f"must hold {rows} x {kept} positions")
    if kept and (not len(stream) or ends[-1] != len(stream) - 1):
        raise PayloadError("indices", "end within a position")
    sums = np.cumsum(stream.astype(np.int64))[ends]
    gaps = np.diff(sums, prepend=0).reshape(rows, kept)
    positions = np.cumsum(gaps + 1, axis=1) - 1
    if positions.size and int(positions.max()) >= length:
        raise PayloadError("indices", f"must lie below {length}")
    return positions
