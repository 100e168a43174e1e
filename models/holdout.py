"""Data of one piece divided into the splits by a fixed seed, so that nobody trains on what others report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..seeding import generator

__all__ = ["divided"]

_SEED = 20261121


def divided(count: int, split: str) -> NDArray[np.int64]:
    """Ascending places, of `count` training samples, that belong to `split`: "train" or "calibration".

    A tenth, at least one, is kept out for calibration. A function of `count` alone: the same file divides the same way
    everywhere.
    """
    order = generator(_SEED, "calibration-split").permutation(count)
    kept_out = max(1, count // 10)
    chosen = order[:kept_out] if split == "calibration" else order[kept_out:]
    return np.sort(chosen).astype(np.int64)
