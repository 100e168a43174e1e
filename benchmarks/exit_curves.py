"""The rules that `early_exit.py` compares, as curves over one network's probabilities."""

from __future__ import annotations

from itertools import product

import numpy as np
from curves import Answers, Curve

from splitpoint.policies.confidence import isotonic_fit
from splitpoint.policies.early_exit import cumulative, scores, stops
from splitpoint.policies.thresholds import candidates, repaired

THRESHOLDS = 96

Probabilities = dict[str, np.ndarray]
"""Of each split, (S, G, C)."""


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def answers(said: Probabilities, labels: dict[str, np.ndarray], macs: np.ndarray) -> dict[str, Answers]:
    found = {}
    for split, probabilities in said.items():
        right = probabilities.argmax(axis=-1) == labels[split][:, None]
        found[split] = Answers(right, {"macs": np.broadcast_to(macs.astype(float), right.shape)})
    return found


def scored_curve(name: str, rule: str, said: Probabilities, answered: dict[str, Answers]) -> Curve:
    scored = {split: scores(rule, probabilities) for split, probabilities in said.items()}
    thresholds = candidates(scored["calibration"], THRESHOLDS)
    return Curve(name, thresholds, answered, lambda split, value: stops(scored[split], value))


def giving_up(said: Probabilities, answered: dict[str, Answers]) -> Curve:
    """The recursive rule that also stops where confidence hardly rises; a threshold is the index of a pair."""
    margins = {split: scores("recursive", probabilities) for split, probabilities in said.items()}
    rises = {
        split: np.diff(values, axis=1, prepend=-np.inf * np.ones((len(values), 1)))
        for split, values in margins.items()
    }
    pairs = list(
        product(
            candidates(margins["calibration"], 32).tolist(),
            candidates(rises["calibration"][:, 1:], 16)[:-1].tolist(),
        )
    )

    def stop(split: str, place: float) -> np.ndarray:
        threshold, slope = pairs[int(place)]
        ends = (margins[split] >= threshold) | (rises[split] < slope)
        ends[:, 0] = margins[split][:, 0] >= threshold
        ends[:, -1] = True
        return ends.argmax(axis=1)

    return Curve("recursive, gives up", np.arange(float(len(pairs))), answered, stop)


def repaired_curve(
    said: Probabilities, answered: dict[str, Answers], macs: np.ndarray, target: float
) -> Curve:
    """Cumulative confidence, its thresholds repaired to budgets; a threshold is the index of a budget.

    target  precision that the thresholds begin with, at every exit
    """
    right = answered["calibration"].right
    tops = {split: probabilities.max(axis=-1) for split, probabilities in said.items()}
    fits = [isotonic_fit(tops["calibration"][:, g], right[:, g]) for g in range(right.shape[1])]
    scored = {
        split: cumulative(np.stack([fit(top[:, g]) for g, fit in enumerate(fits)], axis=1))
        for split, top in tops.items()
    }
    start = np.array(
        [precise(scored["calibration"][:, g], right[:, g], target) for g in range(right.shape[1])]
    )
    budgets = np.linspace(macs[0], macs[-1], THRESHOLDS)
    vectors = [repaired(scored["calibration"], macs, start, float(budget)) for budget in budgets]
    return Curve(
        "cumulative, repaired",
        np.arange(float(len(vectors))),
        answered,
        lambda split, place: stops(scored[split], vectors[int(place)]),
    )


def precise(confidence: np.ndarray, right: np.ndarray, target: float) -> float:
    """The lowest threshold above which this share is right; the highest confidence where none is."""
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(share >= target)
    return float(confidence[order][good[-1]] if len(good) else confidence.max())
