"""The recursion over exits (arXiv 2412.19587), in numpy, for everything that decides on margins.

    qbar_1 = q_1,   qbar_i = a * qbar_{i-1} + (1 - a) * q_i,   a = 1/2
    margin_i = top1 - top2 of softmax(qbar_i)

All functions take (C,) or (..., C) arrays; C is the number of classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["A", "margin", "opinion", "prediction", "running_logits"]

A = 0.5
"""Weight of the earlier exits in the running mean."""


def running_logits(
    previous: NDArray[np.floating] | None, logits: NDArray[np.floating]
) -> NDArray[np.float32]:
    """qbar_i from qbar_{i-1} (None before the first exit) and q_i; float32 (..., C)."""
    new = np.asarray(logits, dtype=np.float32)
    if previous is None:
        return new
    return (A * np.asarray(previous, dtype=np.float32) + (1 - A) * new).astype(np.float32)


def margin(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """top1 - top2 of softmax(logits) over the last axis; float32 (...), in [0, 1]; 1 for a single class."""
    q = np.asarray(logits, dtype=np.float32)
    if q.shape[-1] == 1:
        return np.ones(q.shape[:-1], dtype=np.float32)
    e = np.exp(q - q.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    top = np.partition(p, -2, axis=-1)
    return np.asarray(top[..., -1] - top[..., -2], dtype=np.float32)


def opinion(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Class probabilities of running logits as they are told to others: float32 (..., C), each a float16 value.

    The logits are rounded to float16 first, as an exit state travels: an opinion is then the same number whether a
    learner reported it, the device's exit state brought it, or a profile stored it.
    """
    limit = float(np.finfo(np.float16).max)
    q = np.clip(logits, -limit, limit).astype(np.float16).astype(np.float32)
    e = np.exp(q - q.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True)).astype(np.float16).astype(np.float32)


def prediction(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    """Index of the largest logit over the last axis, ties to the lower; int64 (...)."""
    return np.asarray(np.argmax(logits, axis=-1), dtype=np.int64)
