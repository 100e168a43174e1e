"""The device's half of a Profile: every sample alone through the head, as a device would run it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..codec.requests import exit_state_message
from ..protos import splitpoint_pb2 as pb
from .card import ModelCard
from .data import Dataset
from .preprocess import normalise
from .pruning import Pruned, run_pruned
from .recursion import margin, running_logits
from .vit import SplitViT

__all__ = ["Heads", "measure_heads"]


class Heads:
    """What the device knows after each number of blocks, nothing compressed; S samples, E exits.

    tokens   float32 (depth, S, n+1, d), scores float32 (depth, S, n): after that many blocks; 0 is unused.
             Where gates drop patches, lists of what is left of each sample instead: (k+1, d) and (k,)
    u        float32 (E, S, exit_state_dim), qbar float32 (E, S, C), margin float32 (E, S)
    block_s  seconds (S, depth + 1): embedding, then each block; exit_s seconds (S, E)
    """

    def __init__(self, card: ModelCard, samples: int, gated: bool) -> None:
        exits, n = len(card.exits), card.patch_tokens
        self.card = card
        self.gated = gated
        self.tokens: Sequence[list[np.ndarray]] | np.ndarray
        self.scores: Sequence[list[np.ndarray]] | np.ndarray
        if gated:
            empty = np.empty(0, np.float32)
            self.tokens, self.scores = ([[empty] * samples for _ in range(card.depth)] for _ in range(2))
        else:
            self.tokens = np.empty((card.depth, samples, n + 1, card.dim), np.float32)
            self.scores = np.empty((card.depth, samples, n), np.float32)
        self.u = np.empty((exits, samples, card.exit_state_dim), np.float32)
        self.qbar = np.empty((exits, samples, card.class_count), np.float32)
        self.margin = np.empty((exits, samples), np.float32)
        self.block_s = np.empty((samples, card.depth + 1))
        self.exit_s = np.empty((samples, exits))

    def exit_state(self, cut: int, sample: int) -> pb.ExitState | None:
        """What travels with a request from `cut`; None before the first exit."""
        passed = len(self.card.exits_within(0, cut))
        if not passed:
            return None
        u, qbar = self.u[passed - 1, sample], self.qbar[passed - 1, sample]
        return exit_state_message(u, qbar, passed, float(self.margin[passed - 1, sample]))


@torch.inference_mode()
def measure_heads(
    network: SplitViT, card: ModelCard, data: Dataset, tick: Callable[[], None], keep: float
) -> Heads:
    """Run the head on each sample of `data` at batch 1, calling `tick` after each.

    keep counts for networks with gates: below 1 these drop patches on the way.
    """
    heads = Heads(card, len(data), card.gates and keep < 1.0)
    for sample, image in enumerate(data.images):
        began = time.perf_counter()
        x, u, qbar = network.embed(torch.from_numpy(normalise(image[None], card))), None, None
        go = _gated_blocks(network, x, keep) if heads.gated else _blocks(network, x)
        heads.block_s[sample, 0] = time.perf_counter() - began
        for block in range(card.depth):
            began = time.perf_counter()
            tokens, scores = go(block)
            heads.block_s[sample, block + 1] = time.perf_counter() - began
            if block + 1 < card.depth:
                heads.tokens[block + 1][sample], heads.scores[block + 1][sample] = tokens, scores
            if block + 1 in card.exits:
                index = card.exits.index(block + 1)
                began = time.perf_counter()
                q, u = network.exit(torch.from_numpy(tokens)[None], index, u)
                heads.exit_s[sample, index] = time.perf_counter() - began
                qbar = running_logits(qbar, q[0].numpy())
                heads.u[index, sample], heads.qbar[index, sample] = u[0], qbar
                heads.margin[index, sample] = margin(qbar)
        tick()
    return heads


_Go = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""Runs the next block: tokens that could be sent, CLS first, and the scores of the patches among them."""


def _blocks(network: SplitViT, x: Tensor) -> _Go:
    def go(block: int) -> tuple[np.ndarray, np.ndarray]:
        nonlocal x
        x, scores = network.run(x, block, block + 1)
        return x[0].numpy(), scores[0].numpy()

    return go


def _gated_blocks(network: SplitViT, x: Tensor, keep: float) -> _Go:
    at = Pruned.begin(x[0].numpy(), network.gates.budget(torch.tensor([keep]))[0, 0].numpy())

    def block(index: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out, attention = network.run(torch.from_numpy(tokens)[None], index, index + 1)
        return out[0].numpy(), attention[0].numpy()

    def gate(index: int, tokens: np.ndarray) -> np.ndarray:
        weights: np.ndarray = network.gates(torch.from_numpy(tokens)[None], index)[0].numpy()
        return weights

    def go(index: int) -> tuple[np.ndarray, np.ndarray]:
        nonlocal at
        at, scores = run_pruned(at, index, index + 1, network.card.depth, block, gate)
        assert scores is not None
        return at.to_send(), scores

    return go
