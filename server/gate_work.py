"""What passes between RunGates, the compute thread and a learner: one question in, an opinion a gate out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from .refusals import Rejected

__all__ = ["GateJob", "GateOpinion", "GateRunner", "LearnerCard"]


class LearnerCard(NamedTuple):
    """What others must know of a learner.

    gate_macs     multiply-accumulates of the segment that ends in each gate
    shape         (height, width, channels) of its images, or (rows, columns, dim) of a tail's tokens
    head_id, cut  of a tail over a shared head: whose tokens it takes, and at which cut; cut 0: it takes images
    """

    name: str
    id: str
    classes: int
    gate_macs: tuple[int, ...]
    shape: tuple[int, int, int]
    head_id: str = ""
    cut: int = 0

    @property
    def gates(self) -> int:
        return len(self.gate_macs)


class GateRunner(Protocol):
    """A learner on arrays; called from the compute thread only. A state is whatever the next gate goes on from."""

    card: LearnerCard

    def begin(self, values: Sequence[np.ndarray]) -> list[Any]:
        """States before gate 0, one for each image uint8 (H, W, C), or tokens float32 (T, d) of one count."""
        ...

    def advance(self, states: Sequence[Any], gate: int) -> tuple[np.ndarray, list[Any]]:
        """Opinions float32 (B, C), rounded as they travel, and the states after `gate`."""
        ...


class GateOpinion(NamedTuple):
    """`macs` were executed for it since the opinion before; `last`: nothing follows."""

    gate: int
    probabilities: np.ndarray
    macs: int
    last: bool


@dataclass(slots=True, eq=False)
class GateJob:
    """Gates `next`.. of one learner on one input; opinions are told from `first` to `last`.

    learner    index of the runner
    group      inputs of one batch are of one group: images alike, or tokens of one count
    values     the input, while gate 0 is to come
    expires    by time.monotonic(); None: no deadline
    tell       called on the event loop with each opinion, or once with why there is none
    cancelled  set when nobody waits any more: no further gate is begun
    """

    learner: int
    request_id: int
    first: int
    last: int
    tell: Callable[[GateOpinion | Rejected], None]
    group: int = 0
    values: np.ndarray | None = None
    state: Any = None
    next: int = 0
    expires: float | None = None
    cancelled: bool = False
    untold_macs: int = 0
