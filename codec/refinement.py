"""Progressive refinement: the second message of a request whose answer was not sure enough.

    InferRequest, bits planes ──► margin < refine_margin ──► InferReply that asks, with a session
    RefineRequest, the next planes or further tokens ──► what all of it at once would have been

After DQT's nested integers (arXiv 2508.09176): only what is missing is sent. The protocol is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ..protos import PROTOCOL_VERSION
from ..protos import splitpoint_pb2 as pb
from .decoding import Decoding
from .errors import PayloadError
from .planes import plane_bytes
from .requests import check_crc, check_plane_count, planes_crc
from .tokens import TokenCodec

__all__ = [
    "ASK_BYTES",
    "REFINABLE_BYTES",
    "build_refinement",
    "check_refinement",
    "extended",
    "refined",
    "refinement_bytes",
    "wants_more",
]

Margin = TypeVar("Margin", float, np.ndarray)

REFINABLE_BYTES = pb.InferRequest(refine_margin=1.0).ByteSize()
"""What it adds to a request that the server may ask for more."""

ASK_BYTES = pb.InferReply(wants_refinement=True, session=1).ByteSize()
"""What asking adds to a reply."""


def wants_more(margin: Margin, refine_margin: float) -> bool | np.ndarray:
    """Whether an answer of this margin is too unsure to stand; of arrays, for each."""
    return margin < refine_margin


def build_refinement(
    *,
    request_id: int,
    session: int,
    planes: Sequence[bytes] = (),
    tokens: pb.Tokens | None = None,
) -> pb.RefineRequest:
    """The message that goes on with a held request; every scalar is set.

    session  from the reply that asked
    planes   the next planes of the tokens already sent
    tokens   further tokens, without CLS, as wide as the others then are; a rest token counts so many less and stays
             the mean of all, and goes when none are left
    """
    request = pb.RefineRequest(
        protocol_version=PROTOCOL_VERSION,
        request_id=request_id,
        session=session,
        planes=planes,
        payload_crc=planes_crc(planes, tokens),
    )
    if tokens is not None:
        request.tokens.CopyFrom(tokens)
    return request


def refinement_bytes(tokens: int, dims: int, planes: int) -> int:
    """Bytes of a message with `planes` packed planes of `tokens` tokens, CLS included, in `dims` dims."""
    plane = bytes(plane_bytes(tokens * dims))
    return build_refinement(request_id=1, session=1, planes=[plane] * planes).ByteSize()


def check_refinement(request: pb.RefineRequest) -> None:
    """PayloadError, naming the field, unless something is sent and its CRC is right."""
    for field in ("request_id", "session"):
        if not request.HasField(field):
            raise PayloadError(field, "is missing")
    tokens = request.tokens if request.HasField("tokens") else None
    if not request.planes and tokens is None:
        raise PayloadError("planes", "are missing, and tokens too")
    check_plane_count(request.planes, "planes")
    check_plane_count(request.tokens.planes)
    check_crc(request, planes_crc(request.planes, tokens))


def extended(message: pb.Tokens, planes: Sequence[bytes]) -> pb.Tokens:
    """The payload with the next planes behind its own, by the same coder: what `decode` reads after a Refine."""
    if not planes or message.bits + len(planes) > 8:
        raise PayloadError("planes", f"must be 1 to {8 - message.bits} further ones, not {len(planes)}")
    longer = pb.Tokens()
    longer.CopyFrom(message)
    longer.planes.extend(planes)
    longer.bits = message.bits + len(planes)
    return longer


def refined(codec: TokenCodec, first: pb.Tokens, request: pb.RefineRequest, cut: int) -> tuple[Decoding, int]:
    """A checked payload and what came after it as one, and how many patches its rest token then stands for.

    PayloadError, naming the field, where the two do not go together.
    """
    before = codec.checked(extended(first, request.planes) if request.planes else first, cut)
    if not request.HasField("tokens"):
        return before, first.rest
    if request.tokens.HasField("groups"):
        raise PayloadError("tokens.groups", "cannot be refined")
    if request.tokens.rest:
        raise PayloadError("tokens.rest", "goes with the first part")
    further = codec.checked(request.tokens, cut)
    if first.rest and further.rows > first.rest:
        raise PayloadError("tokens.count", f"must be at most the rest token's {first.rest}")
    # Those that come now were among the rest; its token goes when none are left.
    rest = first.rest - further.rows if first.rest else 0
    rest_goes = bool(first.rest) and not rest
    count = before.rows - rest_goes + further.rows
    if codec.max_tokens is not None and count > codec.max_tokens:
        raise PayloadError("tokens.count", f"makes {count} tokens of at most {codec.max_tokens}")

    def tokens() -> np.ndarray:
        values = before.tokens()
        if rest_goes:
            values = np.delete(values, 1, axis=0)
        return np.concatenate((values, further.tokens()))

    return Decoding(count, tokens, before.sure and further.sure), rest
