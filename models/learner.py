"""A learner: any early-exit network of this package, run gate by gate, so that a quorum may stop it in between.

A `SplitConv`'s file and a SplitViT's model file look alike from here: gate g is the g-th exit, 0-based.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageError
from . import macs
from .card import ModelCard
from .conv import SplitConv
from .conv_card import ConvCard
from .conv_macs import conv_gate_macs
from .learner_file import learner_names, load_learner_network, resolve_learner
from .preprocess import normalise
from .recursion import opinion, running_logits
from .vit import SplitViT

__all__ = ["Learner", "LearnerState", "learner_names", "load_learner", "token_map"]


class LearnerState(NamedTuple):
    """Where a batch stands between gates.

    x     the map or tokens so far; at: blocks or stages executed
    gate  the next one; u, qbar: the exits' state and running logits, None before the first gate
    """

    x: Tensor
    at: int
    gate: int
    u: Tensor | None
    qbar: Tensor | None


def token_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens (B, n+1, d), CLS first, as a map (B, d, rows, columns) of the patches; UsageError if some are missing."""
    rows, columns = size
    if tokens.shape[1] != rows * columns + 1:
        raise UsageError(
            f"this learner needs all {rows * columns + 1} tokens of the shared head, not {tokens.shape[1]}"
        )
    return tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], -1, rows, columns)


class Learner:
    """A network and its card; see `load_learner`.

    head_id, cut  of the model whose tokens this learner can start from, and after how many blocks: for a tail
                  trained over a shared head these; for a SplitViT its own id, and `cut` None: any. "" for none
    gate_macs     int (G,): MACs of the segment that ends in each gate, exit included, from the image (from the
                  tokens for a tail)
    """

    def __init__(self, network: SplitConv | SplitViT, card: ConvCard | ModelCard) -> None:
        self.network, self.card = network.eval(), card
        self.id, self.name, self.classes = card.id, card.name, card.classes
        self.image_size, self.channels, self.mean, self.std = (
            card.image_size,
            card.channels,
            card.mean,
            card.std,
        )
        self.gates = len(card.exits)
        self.head_id = card.head_id if isinstance(card, ConvCard) else card.id
        self.cut = card.cut if isinstance(card, ConvCard) else None
        self.gate_macs = self.macs_from(0) if isinstance(card, ModelCard) else conv_gate_macs(card)

    @property
    def from_tokens_only(self) -> bool:
        """Whether it cannot start from an image, as the tails over a shared head."""
        return bool(self.cut)

    def macs_from(self, cut: int) -> tuple[int, ...]:
        """As `gate_macs`, from all tokens after block `cut`; 0 for gates before it."""
        card = self.card
        if isinstance(card, ConvCard):
            return self.gate_macs
        block, exit_ = macs.block_macs(card, card.patch_tokens + 1), macs.exit_macs(card)
        found, at = [], cut
        for after in card.exits:
            found.append((after - at) * block + exit_ if after >= cut else 0)
            at = max(at, after)
        if cut == 0:
            found[0] += macs.embed_macs(card)
        return tuple(found)

    @torch.inference_mode()
    def begin(self, images: Tensor) -> LearnerState:
        """Before the first gate; images float (B, C, H, W), normalised. UsageError for a tail over a shared head."""
        if self.from_tokens_only:
            raise UsageError(f"the learner {self.name} starts from the tokens of model {self.head_id}")
        return LearnerState(self.network.embed(images), 0, 0, None, None)

    @torch.inference_mode()
    def begin_tokens(
        self, tokens: Tensor, cut: int, u: Tensor | None = None, qbar: Tensor | None = None
    ) -> LearnerState:
        """From the shared head's tokens (B, T, d) after block `cut`; u and qbar of the exits passed, if any were.

        A SplitViT goes on with its first gate at or behind the cut, behind it where qbar says that the head's exit
        there was passed. UsageError where the learner does not start from tokens, or not at this cut.
        """
        if isinstance(self.network, SplitConv):
            if not self.from_tokens_only:
                raise UsageError(f"the learner {self.name} starts from images, not from tokens")
            if cut != self.cut:
                raise UsageError(f"the learner {self.name} starts after block {self.cut}, not {cut}")
            x = self.network.embed(token_map(tokens, self.image_size))
            return LearnerState(x, 0, 0, None, None)
        if not 1 <= cut < self.network.card.depth:
            raise UsageError(f"cut {cut} is not within depth {self.network.card.depth}")
        passed = cut if qbar is not None else cut - 1
        gate = len(self.network.card.exits_within(0, passed))
        return LearnerState(tokens, cut, gate, u, qbar)

    @torch.inference_mode()
    def advance(self, state: LearnerState, gate: int) -> tuple[Tensor, LearnerState]:
        """Run to `gate`, which must be the state's next one; returns its qbar (B, C) and the state behind it.

        The state given is left as it is. UsageError for another gate.
        """
        if gate != state.gate or gate >= self.gates:
            raise UsageError(f"learner {self.name}: the next gate is {state.gate}, not {gate}")
        after = self.card.exits[gate]
        if isinstance(self.network, SplitViT):
            x, _ = self.network.run(state.x, state.at, after)
        else:
            x = self.network.run(state.x, state.at, after)
        q, u = self.network.exit(x, gate, state.u)
        qbar = running_logits(state.qbar, q)
        return qbar, LearnerState(x, after, gate + 1, u, qbar)

    def opinions(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Class probabilities float16 (B, G, C) at every gate, as they are told to others; images (B, H, W, C)."""
        state, found = self.begin(torch.from_numpy(normalise(images, self.card))), []
        for gate in range(self.gates):
            qbar, state = self.advance(state, gate)
            found.append(opinion(qbar.numpy()))
        return np.stack(found, axis=1).astype(np.float16)


def load_learner(name_or_path: str | Path) -> Learner:
    """A learner by name (`learner_names`) or path: a `SplitConv` or any SplitViT, in evaluation mode.

    UsageError for an unknown name, DataError for a file that is missing or broken.
    """
    return Learner(*load_learner_network(resolve_learner(name_or_path)))
