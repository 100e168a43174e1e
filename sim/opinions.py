"""Where virtual time gets the learners' opinions from: a pool's profile, or the learners themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..models.pool_profile import PoolProfile

__all__ = ["Opinions", "ProfileOpinions"]


class Opinions(Protocol):
    """Learners by index, in the order of the scenario."""

    def opinion(self, learner: int, sample: int, gate: int) -> np.ndarray:
        """Class probabilities float32 (C,), as they travel (`models.recursion.opinion`)."""


class ProfileOpinions:
    """Looks opinions up."""

    def __init__(self, profile: PoolProfile, names: Sequence[str]) -> None:
        rows = [profile.learner(name) for name in names]
        self._probabilities = profile.probabilities[rows].astype(np.float32)

    def opinion(self, learner: int, sample: int, gate: int) -> np.ndarray:
        found: np.ndarray = self._probabilities[learner, sample, gate]
        return found
