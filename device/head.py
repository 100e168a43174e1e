"""The head's interface: the network's first blocks at batch 1, by torch or by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from ..models.card import ModelCard
from ..models.pruning import Pruned, run_pruned
from ..models.recursion import margin, prediction, running_logits

__all__ = [
    "Head",
    "HeadState",
    "advanced",
    "begun",
    "passed_exit",
    "run_gated",
]


@dataclass(frozen=True)
class HeadState:
    """Where the network stands on one input.

    tokens      float32 (n + 1, d), CLS first
    scores      float32 (n,), attention of CLS to the patches in the last block; None before the first
    blocks      blocks executed
    u, logits   exit state of the last exit passed, float32 (exit_state_dim,) and (classes,); None before it
    passed      exits passed

    Where gates drop patches, k of them are left: tokens (k + 2, d) with the budget token last, scores (k,), and
    keep        the fraction that was asked for, the budget token's alpha
    weights     float32 (k,), m of the last gate; positions int64 (k,), ascending. None where no gates act
    """

    tokens: np.ndarray
    scores: np.ndarray | None = None
    blocks: int = 0
    u: np.ndarray | None = None
    logits: np.ndarray | None = None
    passed: int = 0
    keep: float = 1.0
    weights: np.ndarray | None = None
    positions: np.ndarray | None = None

    @property
    def to_send(self) -> np.ndarray:
        """CLS and the patches that are left, float32 (k + 1, d): budget token and m stay here."""
        if self.weights is None or self.positions is None:
            return self.tokens
        return Pruned(self.tokens, self.weights, self.positions).to_send()

    @cached_property
    def margin(self) -> float:
        """Of the last exit passed. The agent asks for it, and so does the encoder."""
        assert self.logits is not None
        return float(margin(self.logits))

    @property
    def prediction(self) -> int:
        """Of the last exit passed."""
        assert self.logits is not None
        return int(prediction(self.logits))


class Head(Protocol):
    """One network's blocks and exits. States are not changed, new ones are returned."""

    card: ModelCard

    def embed(self, image: np.ndarray, keep: float = 1.0) -> HeadState:
        """Image uint8 (H, W, C) to tokens; a network with gates is told how much to keep, others send later."""

    def run(self, state: HeadState, start: int, stop: int) -> HeadState:
        """Execute blocks start..stop-1."""

    def exit(self, state: HeadState, index: int) -> HeadState:
        """Read the exit of this index; the recursion goes on from the exits read before."""


def advanced(
    head: Head, image: np.ndarray, state: HeadState | None, stop: int, keep: float = 1.0
) -> HeadState:
    """The state after `stop` blocks, from `state` or from the image, all exits on the way read.

    keep counts where it starts from the image, and for networks with gates only.
    """
    if state is None:
        state = head.embed(image, keep)
    exits = head.card.exits
    while state.blocks < stop:
        place = min((after for after in exits if state.blocks < after <= stop), default=stop)
        state = head.run(state, state.blocks, place)
        if place in exits:
            state = head.exit(state, exits.index(place))
    return state


def passed_exit(state: HeadState, logits: np.ndarray, u: np.ndarray) -> HeadState:
    """The state once an exit gave q (classes,) and u."""
    return replace(state, u=u, logits=running_logits(state.logits, logits), passed=state.passed + 1)


def begun(tokens: np.ndarray, budget: np.ndarray, keep: float) -> HeadState:
    """The state of a network with gates before its first block: tokens (n + 1, d), budget token (d,)."""
    pruned = Pruned.begin(tokens, budget)
    return HeadState(pruned.tokens, keep=keep, weights=pruned.weights, positions=pruned.positions)


def run_gated(
    state: HeadState,
    start: int,
    stop: int,
    depth: int,
    block: Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]],
    gate: Callable[[int, np.ndarray], np.ndarray],
) -> HeadState:
    """Blocks start..stop-1 where gates act; `block` and `gate` as in `models.pruning.run_pruned`."""
    assert state.weights is not None
    assert state.positions is not None
    before = Pruned(state.tokens, state.weights, state.positions)
    at, scores = run_pruned(before, start, stop, depth, block, gate)
    return replace(
        state, tokens=at.tokens, scores=scores, blocks=stop, weights=at.weights, positions=at.positions
    )
