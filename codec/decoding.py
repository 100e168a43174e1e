"""A digital payload from its checks to its tokens, in two steps: what may be wrong is found in the first.

    pb.Tokens ─► checked_tokens ─► Decoding ─► tokens (T, d)
                  named errors     unpack, dequantise, basis

A server checks the form of a request when it arrives and decodes it later: when its batch is formed, or, where only
decoding tells whether a payload is right (entropy-coded planes, a basis whose output may overflow), on a thread of
its own. Entropy coding takes some 0.3 us a value and plane, which adds up to seconds for a batch of large networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ..protos import splitpoint_pb2 as pb
from .basis import Basis
from .entropy import CodeTables, decode_planes
from .errors import PayloadError, check_within
from .halves import checked_halves
from .nested import dequantise
from .planes import check_planes, unpack_planes

__all__ = ["Decoding", "checked_tokens"]


class Decoding(NamedTuple):
    """A payload of good form.

    rows    tokens, of all groups of a merged batch
    tokens  gives them, float32 (rows, d)
    sure    `tokens` raises nothing and is quick; otherwise PayloadError may come of it, naming the field
    """

    rows: int
    tokens: Callable[[], np.ndarray]
    sure: bool


def checked_tokens(message: pb.Tokens, rows: int, basis: Basis, tables: CodeTables | None) -> Decoding:
    """The decoding of a payload of `rows` tokens, whose counts of tokens and dims were found to be right.

    tables  those that the payload was coded with; None where it must be packed

    PayloadError names the field.
    """
    dims, bits = message.dims, message.bits
    check_within("tokens.bits", bits, 1, 8)
    named = 1 if len(message.offset) == 2 else rows
    offset = checked_halves("tokens.offset", message.offset, named)
    scale = checked_halves("tokens.scale", message.scale, named, signed=False)
    planes = list(message.planes)
    if len(planes) != bits:
        raise PayloadError("tokens.planes", f"must be one a bit, {bits}, not {len(planes)}")
    if tables is None:
        check_planes(planes, rows * dims)
    tokens = partial(_tokens, planes, offset, scale, rows, dims, basis, tables)
    return Decoding(rows, tokens, tables is None and basis.bounded)


def _tokens(
    planes: Sequence[bytes],
    offset: np.ndarray,
    scale: np.ndarray,
    rows: int,
    dims: int,
    basis: Basis,
    tables: CodeTables | None,
) -> np.ndarray:
    if tables is None:
        codes = unpack_planes(planes, rows * dims)
    else:
        codes = decode_planes(planes, offset, scale, rows, dims, tables)
    values = dequantise(codes.reshape(rows, dims), offset, scale, len(planes))
    if basis.bounded:
        return basis.reconstruct(values)
    with np.errstate(over="ignore", invalid="ignore"):
        tokens = basis.reconstruct(values)
    if not np.isfinite(tokens).all():
        raise PayloadError("tokens.scale", "gives values that are not finite")
    return tokens
