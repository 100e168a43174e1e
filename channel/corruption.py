"""Noise on the symbols of a request, as the link adds it."""

from __future__ import annotations

import zlib

import numpy as np

from ..protos import splitpoint_pb2 as pb
from .link import Link

__all__ = ["corrupted"]


def corrupted(request: pb.InferRequest, link: Link, t: float) -> pb.InferRequest:
    """The request with its symbols as they are received, and their CRC made anew: on the air there is none.

    Malformed symbols are left as they are, for the server to refuse.
    """
    values = np.frombuffer(request.symbols.values, "<f2").astype(np.float32)
    if len(values) != 2 * request.symbols.count * request.symbols.per_token or not np.isfinite(values).all():
        return request
    sent = values.view(np.complex64).reshape(request.symbols.count, request.symbols.per_token)
    received = link.corrupt(sent, max(0.0, t), 2 * request.request_id)
    pairs = np.ascontiguousarray(received).view(np.float32)
    result = pb.InferRequest()
    result.CopyFrom(request)
    result.symbols.values = np.clip(pairs, -65504.0, 65504.0).astype("<f2").tobytes()
    result.payload_crc = zlib.crc32(result.symbols.values)
    return result
