"""Noise on the symbols of a request, as the link adds it."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from ..protos import splitpoint_pb2 as pb
from .link import Link

__all__ = ["corrupted", "sent_symbols"]

_LARGEST = 65504.0  # of a float16


def sent_symbols(request: pb.InferRequest) -> NDArray[np.complex64] | None:
    """(count, per_token) complex symbols of the request; None where they are malformed, for the server to refuse."""
    symbols = request.symbols
    # Python's integers: a product of two large counts is not taken for a small one.
    if len(symbols.values) != 4 * symbols.count * symbols.per_token or not symbols.values:
        return None
    values = np.frombuffer(symbols.values, "<f2").astype(np.float32)
    if not np.isfinite(values).all():
        return None
    return values.view(np.complex64).reshape(symbols.count, symbols.per_token)


def corrupted(
    request: pb.InferRequest, symbols: NDArray[np.complex64], link: Link, t: float
) -> pb.InferRequest:
    """The request with its `symbols` as they are received when they leave from `t` on.

    Their CRC is made anew: on the air there is none.
    """
    received = np.ascontiguousarray(link.corrupt(symbols, t, 2 * request.request_id))
    values = np.clip(received.view(np.float32), -_LARGEST, _LARGEST).astype("<f2").tobytes()
    result = pb.InferRequest()
    result.CopyFrom(request)
    result.symbols.values = values
    result.payload_crc = zlib.crc32(values)
    return result
