"""The recursion over exits (arXiv 2412.19587). numpy; the running logits of tensors too, where networks are trained.

    qbar_1 = q_1,   qbar_i = a * qbar_{i-1} + (1 - a) * q_i,   a = 1/2
    margin_i = top1 - top2 of softmax(qbar_i)

All functions take (C,) or (..., C); C is the number of classes.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..codec.halves import round_to_wire

__all__ = ["margin", "opinion", "prediction", "running_logits"]

_A = 0.5

_Logits = TypeVar("_Logits")


def running_logits(previous: _Logits | None, logits: _Logits) -> _Logits:
    """qbar_i from qbar_{i-1} (None before the first exit) and q_i, of that kind; arrays or torch's tensors (..., C)."""
    if previous is None:
        return logits
    mean: Any = _A * previous + (1 - _A) * logits  # type: ignore[operator]
    return mean


def margin(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """top1 - top2 of softmax(logits) over the last axis; float32 (...), in [0, 1]; 1 for a single class."""
    q = np.asarray(logits, dtype=np.float32)
    if q.shape[-1] == 1:
        return np.ones(q.shape[:-1], dtype=np.float32)
    top = np.partition(_softmax(q), -2, axis=-1)
    return np.asarray(top[..., -1] - top[..., -2], dtype=np.float32)


def opinion(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Class probabilities of running logits as they are told to others: float32 (..., C), each a float16 value.

    The logits are rounded to float16 first, as an exit state travels: an opinion is then the same number whether a
    learner reported it, the device's exit state brought it, or a profile stored it.
    """
    return round_to_wire(_softmax(round_to_wire(logits)))


def prediction(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    """Index of the largest logit over the last axis, ties to the lower; int64 (...)."""
    return np.asarray(np.argmax(logits, axis=-1), dtype=np.int64)


def _softmax(q: NDArray[np.float32]) -> NDArray[np.float32]:
    e = np.exp(q - q.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
