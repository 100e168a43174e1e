"""The server's half of a measurement: real requests through the codec, and tails on what is decoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..codec.image import decode_image
from ..codec.refinement import build_refinement, refined
from ..codec.requests import build_request, read_exit_state
from ..codec.tokens import TokenCodec
from ..protos import splitpoint_pb2 as pb
from .card import ModelCard
from .preprocess import normalise
from .recursion import margin, prediction, running_logits
from .rest import rest_keys
from .vit import SplitViT

__all__ = ["Tail"]

_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Bytes (B,), predictions and margins (B, exits beyond the cut)."""


class Tail:
    """The server's half: requests are serialised, parsed, decoded and answered, a batch at a time."""

    def __init__(self, network: SplitViT, card: ModelCard, codec: TokenCodec) -> None:
        self.network, self.card, self.codec = network, card, codec

    def answer(
        self,
        cut: int,
        payloads: Sequence[pb.Tokens | pb.Image],
        states: Sequence[pb.ExitState | None],
        further: Sequence[pb.Tokens] = (),
    ) -> _Rows:
        """`further` tokens of each payload: both are then answered together, the bytes are the second message's."""
        nbytes, values, rests, arrived_states = [], [], [], []
        for place, (payload, state) in enumerate(zip(payloads, states, strict=True)):
            request = build_request(
                model_id=self.card.id,
                request_id=1,
                cut=cut,
                deadline_s=1.0,
                exit_margin=2.0,
                payload=payload,
                exit_state=state,
            )
            size, rest = request.ByteSize(), 0
            arrived = pb.InferRequest.FromString(request.SerializeToString())
            if further:
                more = build_refinement(request_id=1, session=1, tokens=further[place])
                size = more.ByteSize()
                arrived_more = pb.RefineRequest.FromString(more.SerializeToString())
                found, rest = refined(self.codec, arrived.tokens, arrived_more, cut)
                value = found.tokens()
            elif cut:
                value, rest = self.codec.decode(arrived.tokens, cut), arrived.tokens.rest
            else:
                value = decode_image(arrived.image, (*self.card.image_size, self.card.channels))
            nbytes.append(size)
            values.append(value)
            rests.append(rest)
            if state is not None:
                arrived_states.append(arrived.exit_state)
        return (np.array(nbytes), *self._run(cut, np.stack(values), rests, arrived_states))

    @torch.inference_mode()
    def _run(
        self, cut: int, values: np.ndarray, rests: Sequence[int], states: Sequence[pb.ExitState]
    ) -> tuple[np.ndarray, np.ndarray]:
        network, card = self.network, self.card
        u, qbar = None, None
        if states:
            sizes = (card.exit_state_dim, card.class_count, len(card.exits))
            readings = [read_exit_state(state, *sizes) for state in states]
            u = torch.from_numpy(np.stack([reading.u for reading in readings]))
            qbar = np.stack([reading.logits for reading in readings])
        x = torch.from_numpy(values) if cut else network.embed(torch.from_numpy(normalise(values, card)))
        keys = rest_keys(rests, x.shape[1])
        predictions, margins, at = [], [], cut
        for index in card.exits_within(cut, card.depth):
            x, _ = network.run(x, at, card.exits[index], keys)
            at = card.exits[index]
            q, u = network.exit(x, index, u)
            qbar = running_logits(qbar, q.numpy())
            predictions.append(prediction(qbar))
            margins.append(margin(qbar))
        return np.stack(predictions, axis=1), np.stack(margins, axis=1)
