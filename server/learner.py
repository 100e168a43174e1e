"""A learner of a quorum behind the `GateRunner` interface: batches in, states split by sample out.

images (B, H, W, C) ─► begin ─► state ─► advance, gate by gate ─► qbar ─► opinion
                                  └ one a sample between gates: the next batch may have other mates
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.learner import Learner, load_learner
from ..models.preprocess import normalise
from ..models.recursion import opinion
from .gate_work import LearnerCard

__all__ = ["LearnerRunner", "load_runner"]


class LearnerRunner:
    """`learner` on torch; `threads` of torch's in this process."""

    def __init__(self, learner: Learner, threads: int) -> None:
        torch.set_num_threads(threads)
        self._learner = learner
        card = learner.card
        self.card = LearnerCard(
            learner.name,
            learner.id,
            len(learner.classes),
            learner.gate_macs,
            (*card.image_size, card.channels),
            learner.head_id,
            learner.cut,
        )

    @torch.inference_mode()
    def begin(self, values: Sequence[np.ndarray]) -> list[Any]:
        """States before gate 0, one for each image uint8 (H, W, C), or tokens float32 (T, d) of one count."""
        batch = np.stack(values)
        learner = self._learner
        if learner.cut:
            state = learner.begin_tokens(torch.from_numpy(batch))
        else:
            state = learner.begin(torch.from_numpy(normalise(batch, learner.card)))
        return _split(state, len(batch))

    @torch.inference_mode()
    def advance(self, states: Sequence[Any], gate: int) -> tuple[np.ndarray, list[Any]]:
        """Opinions float32 (B, C), rounded as they travel, and the states after `gate`."""
        qbar, state = self._learner.advance(_joined(states), gate)
        # Absurd but finite inputs may overflow inside; an opinion is a distribution all the same.
        return opinion(np.nan_to_num(qbar.numpy())), _split(state, len(states))


def load_runner(name_or_path: str | Path, threads: int = 1) -> LearnerRunner:
    """A learner by name or file. Raises UsageError and DataError as loading it does."""
    return LearnerRunner(load_learner(name_or_path), threads)


def _split(state: Any, count: int) -> list[Any]:
    """A batched state, tensors (B, ...) in named tuples, as one state (1, ...) a sample with memory of its own."""
    if count == 1:
        return [state]
    return [_mapped(partial(_row, i), [state]) for i in range(count)]


def _row(index: int, leaves: Sequence[Tensor]) -> Tensor:
    return leaves[0][index : index + 1].clone()


def _joined(states: Sequence[Any]) -> Any:
    return states[0] if len(states) == 1 else _mapped(lambda leaves: torch.cat(tuple(leaves)), states)


def _mapped(combine: Callable[[Sequence[Tensor]], Tensor], states: Sequence[Any]) -> Any:
    """One state of the same nesting as `states`, whose tensors are combined; anything else is theirs alike."""
    first = states[0]
    if isinstance(first, Tensor):
        return combine(list(states))
    if isinstance(first, tuple):
        return type(first)(*(_mapped(combine, column) for column in zip(*states, strict=True)))
    return first
