"""A digital payload from its checks to its tokens, in two steps: what may be wrong is found in the first.

    pb.Tokens ─► checked_tokens ─► a function without arguments ─► tokens (T, d)
                  named errors        unpack, dequantise, basis: cannot fail

A server checks a request when it arrives and decodes it when its batch is formed. Where only decoding tells
whether a payload is right (entropy-coded planes, a basis whose output may overflow), it is decoded in the
first step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np

from ..protos import splitpoint_pb2 as pb
from .basis import Basis
from .entropy import CodeTables, decode_planes
from .errors import PayloadError, check_within
from .nested import dequantise
from .planes import check_planes, unpack_planes

__all__ = ["checked_tokens"]


def checked_tokens(
    message: pb.Tokens, rows: int, basis: Basis, tables: CodeTables | None
) -> Callable[[], np.ndarray]:
    """The decoder of a payload of `rows` tokens, whose counts of tokens and dims were found to be right.

    tables  those that the payload was coded with; None where it must be packed

    Returns a function that gives the tokens, float32 (rows, d). PayloadError names the field.
    """
    dims, bits = message.dims, message.bits
    check_within("tokens.bits", bits, 1, 8)
    named = 1 if len(message.offset) == 2 else rows
    offset = _halves("offset", message.offset, named)
    scale = _halves("scale", message.scale, named, signed=False)
    planes = list(message.planes)
    if len(planes) != bits:
        raise PayloadError("tokens.planes", f"must be one a bit, {bits}, not {len(planes)}")
    if tables is None:
        check_planes(planes, rows * dims)
        decode = partial(_unpacked, planes, offset, scale, rows, dims, basis)
        if basis.bounded:
            return decode
        tokens = decode()
    else:
        codes = decode_planes(planes, offset, scale, rows, dims, tables)
        tokens = _tokens(codes.reshape(rows, dims), offset, scale, bits, basis)
    if not basis.bounded and not np.isfinite(tokens).all():
        raise PayloadError("tokens.scale", "gives values that are not finite")
    return lambda: tokens


def _unpacked(
    planes: Sequence[bytes], offset: np.ndarray, scale: np.ndarray, rows: int, dims: int, basis: Basis
) -> np.ndarray:
    codes = unpack_planes(planes, rows * dims).reshape(rows, dims)
    return _tokens(codes, offset, scale, len(planes), basis)


def _tokens(codes: np.ndarray, offset: np.ndarray, scale: np.ndarray, bits: int, basis: Basis) -> np.ndarray:
    values = dequantise(codes, offset, scale, bits)
    if basis.bounded:
        return basis.reconstruct(values)
    with np.errstate(over="ignore", invalid="ignore"):
        return basis.reconstruct(values)


def _halves(name: str, data: bytes, count: int, *, signed: bool = True) -> np.ndarray:
    """Checked float16 values. On one large integer, a lane of 16 bits each: on every request's path, and with so
    few values most of numpy's time would be the calls."""
    if len(data) != 2 * count:
        raise PayloadError(f"tokens.{name}", f"must have {2 * count} bytes, not {len(data)}")
    bits = int.from_bytes(data, "little")
    exponents, one, signs = _lanes(count)
    # One more on an exponent of all ones, and only on that, reaches the sign's place.
    if (bits & exponents) + one & signs:
        raise PayloadError(f"tokens.{name}", "must be finite")
    if not signed and bits & signs:
        raise PayloadError(f"tokens.{name}", "must not be negative")
    return np.frombuffer(data, "<f2")


@lru_cache(maxsize=256)
def _lanes(count: int) -> tuple[int, int, int]:
    """The exponents' bits of `count` float16, the lowest of each exponent, and the signs."""
    exponents, one, signs = (
        int.from_bytes(lane * count, "little") for lane in (b"\x00\x7c", b"\x00\x04", b"\x00\x80")
    )
    return exponents, one, signs
