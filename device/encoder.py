"""From where the head stands to the request that is sent: what every engine puts on the wire."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..codec.adc import merge
from ..codec.image import LOSSLESS, encode_image, parse_image_format
from ..codec.refinement import build_refinement
from ..codec.requests import build_reply, build_request, exit_state_message
from ..codec.tokens import TokenCodec
from ..errors import UsageError
from ..models.card import ModelCard
from ..policies.decision import Decision
from ..protos import splitpoint_pb2 as pb
from .head import HeadState

__all__ = ["CODERS", "Encoder"]

CODERS = {"packed": pb.CODER_PACKED, "ans": pb.CODER_ANS}


class Encoder:
    """Encodes states of one network. coder: "packed" or "ans"; UsageError where ans is not to be had.

    image_format  how the raw input goes: "png", "webp:QUALITY" or "jpeg:QUALITY"; DataError for anything else
    whole_input   send the image from every cut, the exit state beside it: what serves a quorum of other networks
    """

    def __init__(
        self,
        card: ModelCard,
        codec: TokenCodec,
        coder: str = "packed",
        *,
        image_format: str = LOSSLESS,
        whole_input: bool = False,
    ) -> None:
        if coder not in CODERS:
            raise UsageError(f"unknown coder '{coder}': one of {', '.join(sorted(CODERS))}")
        if coder == "ans" and not any(pb.CODER_ANS in codec.coders(cut) for cut in range(1, card.depth)):
            raise UsageError(
                f"coder 'ans' needs the library constriction and a model with tables; {card.name} lacks one"
            )
        self._card = card
        self._codec = codec
        self._coder = CODERS[coder]
        self._image_format = parse_image_format(image_format)
        self.whole_input = whole_input
        reply = build_reply(request_id=1, prediction=0, margin=0.0, exit=0, server_s=0.0, load=0.0)
        self.reply_bytes = reply.ByteSize()

    def request(
        self,
        image: np.ndarray,
        state: HeadState | None,
        decision: Decision,
        *,
        request_id: int,
        deadline_s: float,
        snr_db: float = math.nan,
    ) -> tuple[pb.InferRequest, np.ndarray]:
        """The request from the cut where `state` stands (the image itself where it is None), and the ascending
        positions of the patch tokens that it keeps.

        deadline_s: relative, from the sending; snr_db: the estimate that symbols are made for, NaN where there is none.
        """
        payload: pb.Image | pb.Tokens | pb.Symbols
        exit_state = None
        if state is None or state.blocks == 0 or self.whole_input:
            payload = encode_image(image, *self._image_format)
            cut, kept = 0, np.arange(self._card.patch_tokens)
        else:
            cut = state.blocks
            tokens, scores, keep = _chosen(state, decision)
            if decision.symbols:
                payload, kept = self._codec.symbols.encode(
                    tokens, scores, cut, keep, decision.symbols, snr_db
                )
            else:
                payload, kept = self._codec.encode(
                    tokens, scores, cut, keep, decision.dims, decision.bits, self._coder
                )
            if state.positions is not None:
                kept = state.positions
        if state is not None and state.u is not None and state.logits is not None:
            exit_state = exit_state_message(state.u, state.logits, state.passed, state.margin)
        request = build_request(
            model_id=self._card.id,
            request_id=request_id,
            cut=cut,
            deadline_s=deadline_s,
            exit_margin=decision.exit_margin,
            payload=payload,
            exit_state=exit_state,
            refine_margin=decision.refine_margin if decision.refines and cut else None,
        )
        return request, kept

    def merged_request(
        self, states: Sequence[HeadState], decision: Decision, *, request_id: int, deadline_s: float
    ) -> tuple[pb.InferRequest, np.ndarray]:
        """One request for samples that came together, merged by ADC, and the group of each, int64 (B,).

        Clusters are seeded by the request's id. A group's exit state is the mean of its samples', its margin the
        lowest.
        """
        cut, patches = states[0].blocks, self._card.patch_tokens
        tokens = np.stack([state.tokens for state in states])
        attention = np.stack([state.scores for state in states if state.scores is not None])
        # As many tokens as every sample would send alone; the half keeps rounding from taking one.
        kept = (self._card.kept(decision.keep) + 1.5) / (patches + 1)
        merged = merge(tokens, attention, decision.merge, min(1.0, kept), seed=0, key=request_id)
        exit_state = None
        if states[0].u is not None:
            exit_state = _merged_state(states, merged.assignment)
        request = build_request(
            model_id=self._card.id,
            request_id=request_id,
            cut=cut,
            deadline_s=deadline_s,
            exit_margin=decision.exit_margin,
            payload=self._codec.encode_merged(merged, cut, decision.dims, decision.bits, self._coder),
            exit_state=exit_state,
        )
        return request, merged.assignment

    def refinement(
        self, state: HeadState, decision: Decision, *, request_id: int, session: int
    ) -> pb.RefineRequest:
        """What takes the request that was made of this state and Decision to `refine_bits` or `refine_keep`."""
        cut = state.blocks
        tokens, scores, keep = _chosen(state, decision)
        if decision.refine_keep:
            assert scores is not None
            further = self._codec.further(
                tokens,
                scores,
                cut,
                keep,
                decision.refine_keep,
                decision.dims,
                decision.bits,
                self._coder,
            )
            return build_refinement(request_id=request_id, session=session, tokens=further)
        quantised, _ = self._codec.quantised(tokens, scores, cut, keep, decision.dims)
        planes = self._codec.further_planes(quantised, cut, decision.bits, decision.refine_bits, self._coder)
        return build_refinement(request_id=request_id, session=session, planes=planes)


def _merged_state(states: Sequence[HeadState], assignment: np.ndarray) -> pb.ExitState:
    groups = [np.flatnonzero(assignment == group) for group in range(int(assignment.max()) + 1)]
    u = np.stack([state.u for state in states if state.u is not None])
    logits = np.stack([state.logits for state in states if state.logits is not None])
    return exit_state_message(
        np.concatenate([u[members].mean(axis=0) for members in groups]),
        np.concatenate([logits[members].mean(axis=0) for members in groups]),
        states[0].passed,
        min(state.margin for state in states),
    )


def _chosen(state: HeadState, decision: Decision) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Tokens, scores, and the fraction of them to send: where gates have chosen already, all that is left."""
    return state.to_send, state.scores, decision.keep if state.positions is None else 1.0
