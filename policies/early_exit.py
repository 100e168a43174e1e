"""When one network may stop: rules over the probabilities at its exits, all of one shape.

A rule gives every exit a score, the higher the surer; the first exit whose score is at least the threshold answers,
else the last. probabilities are (S, G, C): samples, exits, classes; scores (S, G).

    softmax     the largest probability (Hendrycks and Gimpel, arXiv 1610.02136)
    entropy     1 - H / log C (BranchyNet, arXiv 1709.01686)
    patience    exits in a row, before this one, that predict the same (PABEE, arXiv 2006.04152); thresholds 0, 1, ...
    recursive   margin top1 - top2 of the running mean over exits (arXiv 2412.19587): give it those probabilities
    cumulative  1 - prod over exits so far of (1 - c), c the exit's confidence (NACHOS, arXiv 2401.13330)

NACHOS trains a head for c; here c is the largest probability, or whatever calibrated confidence the caller puts in
its place. Its thresholds, one an exit, are repaired to a budget: see `thresholds.repaired`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UsageError, did_you_mean

__all__ = ["RULES", "RuleName", "cumulative", "scores", "stops"]

RuleName = Literal["softmax", "entropy", "patience", "recursive", "cumulative"]
RULES: tuple[RuleName, ...] = ("softmax", "entropy", "patience", "recursive", "cumulative")

Array = NDArray[np.float64]


def scores(rule: str, probabilities: NDArray[np.floating]) -> Array:
    """Scores (S, G) of a rule on probabilities (S, G, C). UsageError, naming the nearest, for an unknown rule."""
    p = np.asarray(probabilities, dtype=np.float64)
    if rule == "softmax":
        return np.asarray(p.max(axis=-1))
    if rule == "entropy":
        logs = np.log(p, out=np.zeros_like(p), where=p > 0)
        return np.asarray(1.0 + (p * logs).sum(axis=-1) / np.log(max(2, p.shape[-1])))
    if rule == "patience":
        return _patience(p.argmax(axis=-1))
    if rule == "recursive":
        if p.shape[-1] == 1:
            return np.ones(p.shape[:-1])
        top = np.partition(p, -2, axis=-1)
        return np.asarray(top[..., -1] - top[..., -2])
    if rule == "cumulative":
        return cumulative(p.max(axis=-1))
    raise UsageError(f"unknown exit rule '{rule}'; {did_you_mean(rule, RULES)}")


def _patience(predictions: NDArray[np.int64]) -> Array:
    counts = np.zeros(predictions.shape)
    for exit in range(1, predictions.shape[1]):
        same = predictions[:, exit] == predictions[:, exit - 1]
        counts[:, exit] = np.where(same, counts[:, exit - 1] + 1, 0)
    return counts


def cumulative(confidence: ArrayLike) -> Array:
    """1 - prod over exits so far of (1 - c), from confidences (S, G) in [0, 1]."""
    return np.asarray(1.0 - np.cumprod(1.0 - np.asarray(confidence, dtype=np.float64), axis=1))


def stops(scores: Array, thresholds: float | Array) -> NDArray[np.int64]:
    """The exit that answers each sample, (S,): one threshold for all, or one an exit (G,), the last of no account."""
    sure = scores >= thresholds
    sure[:, -1] = True
    return np.asarray(sure.argmax(axis=1))
