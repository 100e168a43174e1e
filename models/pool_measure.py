"""Measuring of a pool's profile: every learner on every sample of a split, and the time of its gates at batch 1."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UsageError
from .data import Dataset
from .learner import Learner
from .pool_profile import PoolProfile
from .preprocess import normalise
from .profile import SplitName

__all__ = ["measure_pool"]


def _gate_seconds(learner: Learner, images: NDArray[np.uint8]) -> list[float]:
    """Median seconds of the segment that ends in each gate, one image at a time; preprocessing counts to the first.

    They are seconds of this thread on its core, so that a busy machine does not lengthen them much: torch must have
    one thread.
    """
    times = np.zeros((len(images), learner.gates))
    for sample, image in enumerate(images):
        began = time.thread_time()
        state = learner.begin(torch.from_numpy(normalise(image[None], learner.card)))
        for gate in range(learner.gates):
            _, state = learner.advance(state, gate)
            now = time.thread_time()
            times[sample, gate], began = now - began, now
    return [float(value) for value in np.median(times, axis=0)]


def measure_pool(
    learners: Sequence[Learner],
    split: SplitName,
    data: Dataset,
    *,
    batch: int = 1,
    timed: int = 100,
    say: Callable[[str], None] = lambda text: None,
) -> PoolProfile:
    """The profile of learners with equally many gates and the same classes on a split's data.

    batch  1 gives the answers that a server gives to single requests, to the last bit; more is faster, and the
           sixth digit differs
    UsageError where the learners do not fit each other.
    """
    first = learners[0]
    for one in learners:
        if (one.gates, one.classes) != (first.gates, first.classes):
            raise UsageError(f"the learners {first.name} and {one.name} differ in gates or classes")
    found, seconds = [], []
    for one in learners:
        say(f"measuring {one.name} on {len(data)} samples ({split})")
        parts = [one.opinions(data.images[at : at + batch]) for at in range(0, len(data), batch)]
        found.append(np.concatenate(parts))
        seconds.append(_gate_seconds(one, data.images[:timed]))
    return PoolProfile(
        names=tuple(one.name for one in learners),
        ids=tuple(one.id for one in learners),
        split=split,
        labels=data.labels,
        probabilities=np.stack(found),
        gate_macs=np.array([one.gate_macs for one in learners], dtype=np.int64),
        gate_s=np.array(seconds),
    )
