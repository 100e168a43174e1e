"""A learner: any early-exit network of this package, run gate by gate, so that a quorum may stop it in between.

A `SplitConv`'s file and a SplitViT's model file look alike from here: gate g is the g-th exit, 0-based.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageError
from .card import ModelCard
from .conv import SplitConv
from .conv_card import ConvCard
from .conv_macs import conv_gate_macs
from .learner_file import load_learner_network, resolve_learner
from .macs import head_macs
from .preprocess import normalise
from .recursion import opinion, running_logits
from .vit import SplitViT

__all__ = ["Learner", "LearnerState", "load_learner", "token_map"]


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

    head_id, cut  of a tail over a shared head: the model whose tokens it starts from, and after how many blocks;
                  "" and 0 for a learner that starts from images
    gate_macs     int (G,): MACs of the segment that ends in each gate, exit included
    """

    def __init__(self, network: SplitConv | SplitViT, card: ConvCard | ModelCard) -> None:
        self.network, self.card = network.eval(), card
        self.id, self.name, self.classes = card.id, card.name, card.classes
        self.gates = len(card.exits)
        self.head_id, self.cut = (card.head_id, card.cut) if isinstance(card, ConvCard) else ("", 0)
        if isinstance(card, ConvCard):
            self.gate_macs = conv_gate_macs(card)
        else:
            whole = (head_macs(card, after) for after in card.exits)
            self.gate_macs = tuple(after - before for before, after in pairwise((0, *whole)))

    @torch.inference_mode()
    def begin(self, images: Tensor) -> LearnerState:
        """Before the first gate; images float (B, C, H, W), normalised. UsageError for a tail over a shared head."""
        if self.cut:
            raise UsageError(f"the learner {self.name} starts from the tokens of model {self.head_id}")
        return LearnerState(self.network.embed(images), 0, 0, None, None)

    @torch.inference_mode()
    def begin_tokens(self, tokens: Tensor) -> LearnerState:
        """From all tokens (B, n+1, d) of the shared head after block `cut`. UsageError where it starts from images."""
        if not self.cut:
            raise UsageError(f"the learner {self.name} starts from images, not from tokens")
        x = self.network.embed(token_map(tokens, self.card.image_size))
        return LearnerState(x, 0, 0, None, None)

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
    """A learner by name (`learner_file.learner_names`) or path: a `SplitConv` or any SplitViT, in evaluation mode.

    UsageError for an unknown name, DataError for a file that is missing or broken.
    """
    return Learner(*load_learner_network(resolve_learner(name_or_path)))
