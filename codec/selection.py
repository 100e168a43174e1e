"""Token selection: which patch tokens are sent.

The patches with the highest attention from CLS are kept, in ascending position, and CLS always goes with
them. Positions are not sent: the positional embedding is already in the tokens.

Where a model's codec says so, a rest token goes along, the mean of the m patches that are not kept, and the blocks
behind the cut attend to it as to m equal tokens: its exponential counts m times in the softmax. The fused token is
EViT's (arXiv 2202.07800), the proportional attention ToMe's (arXiv 2210.09461); both together are our choice. EViT
weighs the mean by attention; a plain one is what the softmax would see of m tokens with equal keys.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .errors import PayloadError

__all__ = ["Sent", "further_tokens", "kept_count", "kept_tokens", "sent_tokens"]


def kept_count(patches: int, keep: float) -> int:
    """Patch tokens, or whatever is counted, kept out of `patches` at the fraction `keep` in (0, 1]:
    max(1, floor(keep * patches)).

    k of n patches are k for keep = k / n too, which as a float may be a little less.
    """
    if not 0.0 < keep <= 1.0:
        raise PayloadError("keep", f"must be in (0, 1], not {keep!r}")
    return max(1, math.floor(keep * patches + 1e-9))


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
    order: np.ndarray = (-scores).argsort(kind="stable")
    # What is not finite is first or last; of so few values two are looked at in less time than all.
    if not (math.isfinite(scores[order[0]]) and math.isfinite(scores[order[-1]])):
        raise PayloadError("scores", "must be finite")
    best = order[:count]
    best.sort()
    return best


def further_tokens(scores: np.ndarray, keep: float, refine_keep: float) -> np.ndarray:
    """Positions of the patches that `refine_keep` keeps beyond those of `keep`, int64, ascending."""
    return np.setdiff1d(kept_tokens(scores, refine_keep), kept_tokens(scores, keep), assume_unique=True)


class Sent(NamedTuple):
    """What is sent of a sample.

    tokens  float (k+1, d), CLS first, or (k+2, d) where a rest token follows it
    kept    positions of the kept patches, int64 (k,), ascending
    rest    patches that the rest token stands for; 0 without one
    """

    tokens: np.ndarray
    kept: np.ndarray
    rest: int = 0


def sent_tokens(tokens: np.ndarray, scores: np.ndarray | None, keep: float, *, rest: bool = False) -> Sent:
    """CLS and the kept patches of tokens (n+1, d); with `rest`, and if there are any others, the mean of these too.

    scores may be None where keep is 1; n may be 0 where gates left no patch. PayloadError for shapes that do not fit.
    """
    if tokens.ndim != 2 or tokens.shape[0] < 1:
        raise PayloadError("tokens", f"must have shape (n+1, d), not {tokens.shape}")
    if tokens.shape[0] == 1:
        return Sent(tokens, np.empty(0, np.int64))
    if scores is None:
        if keep != 1.0:
            raise PayloadError("scores", f"are needed to keep {keep:g} of the tokens")
        scores = np.zeros(tokens.shape[0] - 1, np.float32)
    if scores.shape != (tokens.shape[0] - 1,):
        raise PayloadError("scores", f"must have shape ({tokens.shape[0] - 1},), not {scores.shape}")
    kept = kept_tokens(scores, keep)
    if kept.size == scores.size:
        return Sent(tokens, kept)
    places = np.concatenate(([0], kept + 1))
    sent = tokens[places]
    if not rest:
        return Sent(sent, kept)
    others = np.ones(len(tokens), bool)
    others[places] = False
    mean = tokens[others].mean(axis=0, keepdims=True)
    return Sent(np.concatenate((sent[:1], mean, sent[1:])), kept, scores.size - kept.size)
