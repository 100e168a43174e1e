"""What passes between validation, the batcher and the tail: one sample in, one answer out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["Answer", "Progress", "Sample", "Tail"]


@dataclass(slots=True)
class Sample:
    """One validated sample.

    cut          blocks executed on the device
    values       float32 (T, d), CLS first; at cut 0 the image, uint8 (H, W, C)
    exit_margin  an exit answers when its margin is at least this
    u, logits    exit state on arrival, float32 (exit_state_dim,) and (C,); None where no exit was passed
    """

    cut: int
    values: np.ndarray
    exit_margin: float
    u: np.ndarray | None = None
    logits: np.ndarray | None = None


class Answer(NamedTuple):
    """`exit` is the index, in the card's exits, of the exit that answered."""

    prediction: int
    margin: float
    exit: int


class Progress(NamedTuple):
    """One segment was run: on how many samples, at how many MACs each, and who left with an answer."""

    samples: int
    macs: int
    answers: list[tuple[int, Answer]]


class Tail(Protocol):
    """The network's second half, or something in its place."""

    def run(self, samples: Sequence[Sample]) -> Iterator[Progress]:
        """Run a batch of equal cut and token count, one segment at a step; every sample is answered once.

        Called from the compute thread only.
        """
        ...
