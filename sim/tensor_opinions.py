"""The tensor engine's opinions: the learners really run, on every input."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

from ..models.learner import Learner, LearnerState
from ..models.preprocess import normalise
from ..models.recursion import opinion

__all__ = ["TensorOpinions"]

_KEPT = 64


class TensorOpinions:
    """Runs learners, gate by gate, on images uint8 (S, H, W, C) at batch 1.

    Where a learner stands on the last inputs is kept, for the next gate of the same input goes on from there.
    """

    def __init__(self, learners: Sequence[Learner], images: np.ndarray) -> None:
        self._learners = learners
        self._images = images
        self._begun: OrderedDict[tuple[int, int], tuple[LearnerState, list[np.ndarray]]] = OrderedDict()

    def opinion(self, learner: int, sample: int, gate: int) -> np.ndarray:
        key, network = (learner, sample), self._learners[learner]
        if key in self._begun:
            state, known = self._begun.pop(key)
        else:
            pixels = normalise(self._images[sample : sample + 1], network.card)
            state, known = network.begin(torch.from_numpy(pixels)), []
        while len(known) <= gate:
            logits, state = network.advance(state, len(known))
            known.append(opinion(logits.numpy())[0])
        self._begun[key] = state, known
        if len(self._begun) > _KEPT:
            self._begun.popitem(last=False)
        return known[gate]
