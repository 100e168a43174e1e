"""Progressive refinement on the server: ask where an answer is not sure enough, and go on with what comes.

answer ─► margin < refine_margin ─► hold the first part under a session, ask ─► Refine ─► both parts, decoded
                                     └ too long, too many ─► forgotten: NOT_FOUND     as if sent at once
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

import grpc

from ..codec.decoding import Decoding
from ..codec.errors import PayloadError
from ..codec.refinement import check_refinement, refined, wants_more
from ..codec.tokens import TokenCodec
from ..protos import splitpoint_pb2 as pb
from .held import HOLD_S, MOST_HELD, HeldRequests
from .refusals import Rejected, bad_payload
from .work import NOTHING, Answer, Sample

__all__ = ["Refinement"]


class _Held(NamedTuple):
    request_id: int
    tokens: bytes
    sample: Sample


class Refinement:
    """The requests of one server that wait for more. `codec` is that of the network, with its limits."""

    def __init__(self, codec: TokenCodec, most: int = MOST_HELD, hold_s: float = HOLD_S) -> None:
        self.asking = True
        """Set to False when the server drains: answers then stand as they are."""
        self._codec, self._hold_s = codec, hold_s
        self._held: HeldRequests[_Held] = HeldRequests(most, hold_s)

    def __len__(self) -> int:
        return len(self._held)

    def completes(self, request: pb.InferRequest, sample: Sample) -> Callable[[Answer, pb.InferReply], None]:
        """What to do with the answer to a checked request that allows refinement, and its reply."""
        margin = request.refine_margin

        def complete(answer: Answer, reply: pb.InferReply) -> None:
            if not self.asking or not wants_more(answer.margin, margin):
                return
            # Bytes and not the message, which would keep alive all that came with it, known or not.
            request.tokens.DiscardUnknownFields()  # type: ignore[attr-defined,unused-ignore]
            first = Sample(sample.cut, NOTHING, sample.exit_margin, sample.u, sample.logits)
            session = secrets.randbits(64) or 1
            held = _Held(request.request_id, request.tokens.SerializeToString(), first)
            self._held.put(session, held, time.monotonic())
            reply.wants_refinement, reply.session = True, session

        return complete

    def resume(self, request: pb.RefineRequest) -> tuple[Sample, Decoding]:
        """The sample, and the tokens that both parts make. Raises Rejected: NOT_FOUND for a session that is not, or no
        longer, there, INVALID_ARGUMENT for everything else; a session serves once."""
        try:
            check_refinement(request)
            held = self._held.take(request.session, time.monotonic())
            if held is None or held.request_id != request.request_id:
                raise Rejected(
                    grpc.StatusCode.NOT_FOUND,
                    f"session: no request is held under it; they are kept for {self._hold_s:g} s",
                )
            tokens = pb.Tokens.FromString(held.tokens)
            sample = held.sample
            found, sample.rest = refined(self._codec, tokens, request, sample.cut)
        except PayloadError as error:
            raise bad_payload(error) from None
        return sample, found
