"""The head on torch."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch

from ..models.card import ModelCard
from ..models.preprocess import normalise
from ..models.store import load_network
from ..models.vit import SplitViT
from .head import HeadState, begun, passed_exit, run_gated

__all__ = ["TorchHead"]


class TorchHead:
    """A model's name or file, at batch 1; torch gets one thread in this process, the fastest for small networks."""

    card: ModelCard

    def __init__(self, model: str | Path) -> None:
        torch.set_num_threads(1)
        self._network, self.card = load_network(model)

    @classmethod
    def of(cls, network: SplitViT, card: ModelCard) -> Self:
        """Around a network that is loaded already."""
        head = cls.__new__(cls)
        head._network, head.card = network.eval(), card
        return head

    @torch.inference_mode()
    def embed(self, image: np.ndarray, keep: float = 1.0) -> HeadState:
        tokens = self._network.embed(torch.from_numpy(normalise(image[None], self.card)))[0].numpy()
        if keep == 1.0 or not self.card.gates:
            return HeadState(tokens)
        budget = self._network.gates.budget(torch.tensor([keep]))
        return begun(tokens, budget[0, 0].numpy(), keep)

    @torch.inference_mode()
    def run(self, state: HeadState, start: int, stop: int) -> HeadState:
        if state.positions is not None:
            return run_gated(state, start, stop, self.card.depth, self._block, self._gate)
        tokens, scores = self._network.run(torch.from_numpy(state.tokens)[None], start, stop)
        return HeadState(tokens[0].numpy(), scores[0].numpy(), stop, state.u, state.logits, state.passed)

    @torch.inference_mode()
    def exit(self, state: HeadState, index: int) -> HeadState:
        before = None if state.u is None else torch.from_numpy(state.u)[None]
        logits, u = self._network.exit(torch.from_numpy(state.tokens)[None], index, before)
        return passed_exit(state, logits[0].numpy(), u[0].numpy())

    def _block(self, index: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, attention = self._network.run(torch.from_numpy(tokens)[None], index, index + 1)
        return x[0].numpy(), attention[0].numpy()

    def _gate(self, index: int, tokens: np.ndarray) -> np.ndarray:
        weights: np.ndarray = self._network.gates(torch.from_numpy(tokens)[None], index)[0].numpy()
        return weights
