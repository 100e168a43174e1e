"""Inference with gates on one sample: multiply by m, then remove. numpy around any runtime's blocks.

    tokens [CLS, k patches, budget] ─► block · m ─► gate ─► m' ─► tokens · m', those with m' <= 1e-3 removed

torch and ONNX Runtime, profiles and boards go through this one arithmetic; the method is told in
`models/gates.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["KEPT", "Pruned", "run_pruned"]

KEPT = 1e-3
"""A patch token whose m is not above this is removed."""


class Pruned(NamedTuple):
    """Tokens of one sample between two blocks of a network with gates.

    tokens     float32 (k + 2, d): CLS, the patches that are left, the budget token; multiplied by m already
    weights    float32 (k,): m of the gate that was last
    positions  int64 (k,), ascending: which patches these are
    """

    tokens: np.ndarray
    weights: np.ndarray
    positions: np.ndarray

    @classmethod
    def begin(cls, tokens: np.ndarray, budget: np.ndarray) -> Pruned:
        """Before the first block: tokens (n + 1, d), CLS first, and the budget token (d,)."""
        n = len(tokens) - 1
        return cls(np.concatenate([tokens, budget[None]]), np.ones(n, np.float32), np.arange(n))

    def to_send(self) -> np.ndarray:
        """CLS and the patches that are left, float32 (k + 1, d), with the last gate's m taken out again.

        The tail has no gates, and knows tokens of their own size; a small m would drown in the quantisation.
        """
        return np.concatenate([self.tokens[:1], self.tokens[1:-1] / self.weights[:, None]])

    def gated(self, weights: np.ndarray) -> Pruned:
        """Behind a gate whose m is `weights` (k,)."""
        kept = weights > KEPT
        tokens = np.concatenate([self.tokens[:1], self.tokens[1:-1][kept], self.tokens[-1:]])
        tokens[1:-1] *= weights[kept, None]
        return Pruned(tokens, weights[kept], self.positions[kept])


def run_pruned(
    at: Pruned,
    start: int,
    stop: int,
    depth: int,
    block: Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]],
    gate: Callable[[int, np.ndarray], np.ndarray],
) -> tuple[Pruned, np.ndarray | None]:
    """Blocks [start, stop), each with the gate behind it; the last block of the network has none.

    block  (index, tokens (T, d)) -> tokens (T, d) and the attention of CLS to all others (T-1,)
    gate   (index, tokens (k+2, d)) -> m (k,) of the gate in front of block `index`

    Also gives the scores of the patches that are left, float32 (k,); None where no block is run.
    """
    scores: np.ndarray | None = None
    for index in range(start, stop):
        tokens, attention = block(index, at.tokens)
        scores = attention[:-1]
        tokens = np.concatenate([tokens[:1], tokens[1:-1] * at.weights[:, None], tokens[-1:]])
        before, at = at.positions, Pruned(tokens, at.weights, at.positions)
        if index + 1 < depth:
            at = at.gated(gate(index + 1, at.tokens))
            scores = scores[np.isin(before, at.positions)]
    return at, scores
