"""Entropy coding of bit planes, each by itself given the higher ones.

    token's offset, scale --> code of the value zero, z --|
    code's higher bits -----> interval [low, high) -------|--> counts of the dim's class over code - z
                                                          |--> P(next bit is one) --> ANS, one a plane

The asymmetric numeral system is the library constriction's. The tables are integers and ship with the
model (`codec.{cut}.tables`), so that encoder and decoder agree on different machines: a probability is the
quotient of two integers, correctly rounded everywhere. Codes are counted from the token's own zero, which
both sides know from offset and scale: small dims crowd around it, wherever it lies in the token's range.
Dims share a table with dims of similar distribution, which keeps tables to a few kilobytes. A plane that
would not become shorter is packed; its length tells the decoder which it is. Model and layout are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ..protos import splitpoint_pb2 as pb
from .array_crc import arrays_crc
from .errors import PayloadError
from .nested import Quantised
from .planes import pack_planes, plane_bytes, plane_matrix, unpack_planes

try:
    import constriction
except ImportError:  # optional: no wheel for some boards
    constriction = None

__all__ = [
    "CodeTables",
    "available_coders",
    "decode_planes",
    "encode_planes",
    "fit_tables",
    "is_table",
    "tables_crc",
]

_BINS = 511  # code - zero lies in -255..255
_WORTH = 0.98  # a plane expected to stay longer than this part of its packed length is packed


def available_coders() -> tuple[pb.Coder.ValueType, ...]:
    """Coders that this installation has; bit packing is always among them."""
    return (pb.CODER_PACKED,) if constriction is None else (pb.CODER_PACKED, pb.CODER_ANS)


def is_table(name: str) -> bool:
    """Whether the array of this name holds code tables. They are no part of a model's id."""
    return name.startswith("codec.") and name.endswith(".tables")


def tables_crc(arrays: Mapping[str, np.ndarray]) -> int:
    """CRC-32 of a model's code tables: names and little-endian values, by name; 0 where there are none.

    Other arrays are not looked at. Both sides must have equal tables, and what names them is this.
    """
    return arrays_crc({name: array for name, array in arrays.items() if is_table(name)}, "<u2")


class CodeTables:
    """Integer tables of one cut, from a uint16 array: dim, the class of every dim, then 511 counts a class.

    The counts of a class are of code - zero from -255 up, all above 0. DataError if the array is otherwise.
    """

    def __init__(self, array: np.ndarray) -> None:
        array = np.atleast_1d(array)
        dim = int(array[0]) if array.ndim == 1 and array.dtype == np.uint16 and array.size else 0
        counts = array[1 + dim :]
        if dim == 0 or counts.size == 0 or counts.size % _BINS or not counts.all():
            raise DataError(
                f"codec tables must be uint16: dim, a class a dim, {_BINS} counts above 0 a class"
            )
        counts = counts.reshape(-1, _BINS).astype(np.int64)
        classes = array[1 : 1 + dim].astype(np.int64)
        if classes.max() >= len(counts):
            raise DataError("codec tables name a class that they do not have")
        self.dim = dim
        self._start = classes * (_BINS + 1)
        below = np.zeros((len(counts), _BINS + 1), np.int64)
        np.cumsum(counts, axis=1, out=below[:, 1:])
        self._below = below.ravel()

    def origins(self, offset: np.ndarray, scale: np.ndarray, rows: int, dims: int) -> np.ndarray:
        """Index of code 0 in the tables for each code, int64 (rows * dims,).

        offset, scale  float16 (rows,), or (1,) for all tokens
        """
        if dims > self.dim:
            raise PayloadError("tokens.dims", f"must be in 1..{self.dim} for the tables, not {dims}")
        place = 255 - _zeros(offset, scale)
        origins = (place[:, None] + self._start[:dims]).ravel()
        return origins if place.size == rows else np.tile(origins, rows)

    def ones(self, origins: np.ndarray, prefixes: np.ndarray, plane: int) -> np.ndarray:
        """P(bit `plane` is one), float64 (N,), given the higher bits of each code, `prefixes` int64 (N,)."""
        width = 256 >> plane
        low = origins + prefixes * width
        below, above = self._below[low + width // 2], self._below[low + width]
        probability: np.ndarray = (above - below) / (above - self._below[low])
        return probability


def encode_planes(quantised: Quantised, first: int, stop: int, tables: CodeTables) -> list[bytes]:
    """Planes first..stop-1, each entropy coded where that is shorter than packing."""
    codes = quantised.codes
    planes = pack_planes(codes, first, stop)
    if constriction is None or not planes:
        return planes
    flat, bits = codes.reshape(-1).astype(np.int64), plane_matrix(codes)
    origins = tables.origins(quantised.offset, quantised.scale, *codes.shape)
    for place, plane in enumerate(range(first, stop)):
        ones = tables.ones(origins, flat >> (8 - plane), plane)
        # A look at the cost first: low planes are often noise, and coding them in vain takes time.
        cost = -np.log2(np.where(bits[plane], ones, 1.0 - ones)).sum()
        if cost > _WORTH * 8 * len(planes[place]):
            continue
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(bits[plane].astype(np.int32), _bits(), ones)
        coded = coder.get_compressed().astype("<u4", copy=False).tobytes()
        if len(coded) < len(planes[place]):
            planes[place] = coded
    return planes


def decode_planes(
    planes: Sequence[bytes], offset: np.ndarray, scale: np.ndarray, rows: int, dims: int, tables: CodeTables
) -> np.ndarray:
    """Codes of len(planes) bits, uint8 (rows * dims,); PayloadError for planes that do not decode.

    offset, scale  float16 (rows,), or (1,) for all tokens; finite
    """
    if not 1 <= len(planes) <= 8:
        raise PayloadError("tokens.planes", f"must be 1 to 8 planes, not {len(planes)}")
    count = rows * dims
    size = plane_bytes(count)
    origins = tables.origins(offset, scale, rows, dims)
    codes = np.zeros(count, np.int64)
    for plane, data in enumerate(planes):
        if len(data) == size:
            bits = unpack_planes([data], count)
        else:
            bits = _decode(data, tables.ones(origins, codes, plane), plane, size)
        codes = codes << 1 | bits
    return codes.astype(np.uint8)


def _decode(data: bytes, ones: np.ndarray, plane: int, size: int) -> np.ndarray:
    if constriction is None or len(data) % 4 or len(data) > size:
        raise PayloadError("tokens.planes", f"[{plane}] has {len(data)} bytes: neither packed nor coded")
    try:
        coder = constriction.stream.stack.AnsCoder(np.frombuffer(data, "<u4").astype(np.uint32, copy=False))
        bits: np.ndarray = coder.decode(_bits(), ones)
    except ValueError as error:
        raise PayloadError("tokens.planes", f"[{plane}] does not decode: {error}") from error
    # All that was written is read again, or it was not written with these tables.
    if not coder.is_empty():
        raise PayloadError("tokens.planes", f"[{plane}] does not decode with the model's tables")
    return bits


def _bits() -> Any:
    # Not "perfect": plain fixed-point rounding of the probability, the same on every machine.
    return constriction.stream.model.Bernoulli(perfect=False)


def _zeros(offset: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Code of the value zero in each range, int64 (T,), at the nearest end where it lies outside."""
    step = scale.astype(np.float32)
    cells = -offset.astype(np.float32) / np.where(step > 0, step, np.float32(1))
    return np.clip(np.rint(cells), 0, 255).astype(np.int64)


def fit_tables(samples: Iterable[Quantised], dim: int, classes: int = 8) -> np.ndarray:
    """Integer tables of one cut from sample codes: a uint16 array to ship as `codec.{cut}.tables`.

    samples  what `TokenCodec.quantised` gives; mix the numbers of dims that will be used, for a token's
             scale depends on them
    dim      the network's dim
    classes  distributions that the dims share, at most; 1 kB each
    """
    seen = np.zeros((dim, _BINS))
    for sample in samples:
        dims = sample.codes.shape[1]
        place = sample.codes + (255 - _zeros(sample.offset, sample.scale))[:, None] + np.arange(dims) * _BINS
        seen[:dims] += np.bincount(place.ravel(), minlength=dims * _BINS).reshape(dims, _BINS)
    members = _classes(seen, min(classes, dim))
    shared = np.stack([seen[members == group].sum(axis=0) for group in range(int(members.max()) + 1)])
    # One count for each bin keeps what was never seen codable; the rest of 2**16 goes by what was.
    share = shared / np.maximum(shared.sum(axis=1, keepdims=True), 1.0)
    counts = 1 + np.floor(share * (65535 - _BINS)).astype(np.int64)
    return np.concatenate(([dim], members, counts.ravel())).astype(np.uint16)


def _classes(seen: np.ndarray, classes: int) -> np.ndarray:
    """Class of every dim: k-means of the dims' counts (d, bins) by code length, from an ordered start."""
    values = np.arange(seen.shape[1])
    total = np.maximum(seen.sum(axis=1), 1.0)
    mean = seen @ values / total
    spread = seen @ values**2 / total - mean**2
    members = np.empty(len(seen), np.int64)
    members[np.argsort(spread, kind="stable")] = np.arange(len(seen)) * classes // len(seen)
    for _ in range(20):
        shared = np.stack([seen[members == group].sum(axis=0) for group in range(classes)]) + 0.05
        length = -np.log2(shared / shared.sum(axis=1, keepdims=True))
        nearest = np.argmin(seen @ length.T, axis=1)
        if (nearest == members).all():
            break
        members = nearest
    return np.unique(members, return_inverse=True)[1].astype(np.int64)
