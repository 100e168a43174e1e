"""What a request is charged for: bytes, and channel uses for what goes as symbols."""

from __future__ import annotations

from . import splitpoint_pb2 as pb

__all__ = ["SYMBOL_BYTES", "charged"]

SYMBOL_BYTES = 4
"""One complex symbol in a message: float16 re, im."""


def charged(request: pb.InferRequest, nbytes: int) -> tuple[int, int]:
    """(bytes, channel uses) of a request that is `nbytes` when serialised: symbols on the air are no bytes."""
    values = len(request.symbols.values) if request.WhichOneof("payload") == "symbols" else 0
    return nbytes - values, -(-values // SYMBOL_BYTES)
