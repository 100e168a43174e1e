"""Noise on the symbols of a request, as the link adds it."""

from __future__ import annotations

import numpy as np

from ..protos import splitpoint_pb2 as pb
from ..protos.charges import SYMBOL_BYTES
from .link import Link

__all__ = ["corrupted"]

_LARGEST = 65504.0  # of a float16


def corrupted(request: pb.InferRequest, link: Link, start_s: float) -> pb.InferRequest:
    """The request with its symbols as they are received; the first of them is on the air at `start_s`.

    The CRC stays right: it covers what is digital only. Malformed symbols are left as they are, for the server to
    refuse.
    """
    count, per_token, values = request.symbols.count, request.symbols.per_token, request.symbols.values
    if not values or len(values) != SYMBOL_BYTES * count * per_token:
        return request
    pairs = np.frombuffer(values, "<f2").astype(np.float32)
    if not np.isfinite(pairs).all():
        return request
    sent = pairs.view(np.complex64).reshape(count, per_token)
    received = np.ascontiguousarray(link.corrupt(sent, max(0.0, start_s), 2 * request.request_id))
    result = pb.InferRequest()
    result.CopyFrom(request)
    result.symbols.values = np.clip(received.view(np.float32), -_LARGEST, _LARGEST).astype("<f2").tobytes()
    return result
