"""Token selection: which patch tokens are sent.

The patches with the highest attention from CLS are kept, in ascending position, and CLS always goes with
them. Positions are not sent: the positional embedding is already in the tokens.
"""

from __future__ import annotations

import math

import numpy as np

from .errors import PayloadError

__all__ = ["kept_count", "kept_tokens"]


def kept_count(patches: int, keep: float) -> int:
    """Patch tokens kept out of `patches` at the fraction `keep` in (0, 1]: max(1, floor(keep * patches))."""
    if not 0.0 < keep <= 1.0:
        raise PayloadError("keep", f"must be in (0, 1], not {keep!r}")
    return max(1, math.floor(keep * patches))


def kept_tokens(scores: np.ndarray, keep: float) -> np.ndarray:
    """Positions of the kept patches, int64 (k,), ascending; ties go to the lower position.

    scores  float (n,), the higher the more important
    keep    fraction of the patches, in (0, 1]

    Raises PayloadError for scores that are not finite or a `keep` out of range.
    """
    scores = np.asarray(scores)
    if scores.ndim != 1 or scores.size == 0:
        raise PayloadError("scores", f"must have shape (n,), not {scores.shape}")
    count = kept_count(scores.size, keep)
    if not np.isfinite(scores).all():
        raise PayloadError("scores", "must be finite")
    if count == scores.size:
        return np.arange(count)
    best: np.ndarray = np.argsort(-scores, kind="stable")[:count]
    best.sort()
    return best
