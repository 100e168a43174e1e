"""What passes between validation, the batcher and the tail: one sample in, one answer out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["NOTHING", "Answer", "Progress", "Sample", "Tail"]

NOTHING = np.empty(0, np.float32)
"""Values of a sample whose payload is still to be decoded."""


class Sample:
    """One validated sample.

    cut          blocks executed on the device
    values       float32 (T, d), CLS first; at cut 0 the image, uint8 (H, W, C). Or a function that gives them
                 and cannot fail: it is called once, when the tail asks for them and so when its batch is formed
    exit_margin  an exit answers when its margin is at least this
    u, logits    exit state on arrival, float32 (exit_state_dim,) and (C,); None where no exit was passed
    rest         patches that the second token stands for; 0 where it is a patch like the others
    """

    __slots__ = ("_values", "cut", "exit_margin", "logits", "rest", "u")

    def __init__(
        self,
        cut: int,
        values: np.ndarray | Callable[[], np.ndarray],
        exit_margin: float,
        u: np.ndarray | None = None,
        logits: np.ndarray | None = None,
        rest: int = 0,
    ) -> None:
        self.cut, self._values, self.exit_margin, self.u, self.logits = cut, values, exit_margin, u, logits
        self.rest = rest

    @property
    def values(self) -> np.ndarray:
        values = self._values
        if not isinstance(values, np.ndarray):
            values = self._values = values()
        return values

    @values.setter
    def values(self, values: np.ndarray | Callable[[], np.ndarray]) -> None:
        self._values = values


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

        Called from one thread at a time: the compute thread, or the event loop where a run is quicker than the
        way to that thread.
        """
        ...
