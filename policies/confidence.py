"""How likely an answer is right, from its margin: what stands for the label where there is none.

Pool-adjacent-violators (Ayer et al. 1955) on the calibration profile: the best rising step function from margin to
share of correct answers, over the answers of all exits on both sides.
"""

from __future__ import annotations

import numpy as np

from ..models.profile import Profile

__all__ = ["Confidence", "fit_confidence", "isotonic_fit"]

_LEVELS = 64


class Confidence:
    """Linear between knots: margins (N,) rising, probabilities (N,) not falling."""

    def __init__(self, margins: np.ndarray, probabilities: np.ndarray) -> None:
        self._margins = margins
        self._probabilities = probabilities

    def __call__(self, margin: float | np.ndarray) -> np.ndarray:
        return np.interp(margin, self._margins, self._probabilities)


def fit_confidence(profile: Profile) -> Confidence:
    """From a calibration Profile. Raises UsageError for another one."""
    profile.require("calibration")
    margins = np.concatenate([profile.head_margin.ravel(), profile.tail_margin.ravel()])
    right = np.concatenate(
        [
            (profile.head_prediction == profile.labels[:, None]).ravel(),
            (profile.tail_prediction == profile.labels[None, :, None]).ravel(),
        ]
    )
    return isotonic_fit(margins, right)


def isotonic_fit(margins: np.ndarray, right: np.ndarray) -> Confidence:
    """The fit for margins (N,) and whether each answer was right, bool (N,)."""
    order = np.argsort(margins, kind="stable")
    parts = np.array_split(order, min(_LEVELS, len(order)))
    centres = np.array([margins[part].mean() for part in parts])
    shares = np.array([right[part].mean() for part in parts])
    return Confidence(centres, _isotonic(shares, np.array([len(part) for part in parts], float)))


def _isotonic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The non-falling sequence nearest to `values` in weighted squares, same shape (N,)."""
    means: list[float] = []
    masses: list[float] = []
    counts: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        masses.append(weight)
        counts.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            mass = masses[-2] + masses[-1]
            means[-2] = (means[-2] * masses[-2] + means[-1] * masses[-1]) / mass
            masses[-2] = mass
            counts[-2] += counts[-1]
            del means[-1], masses[-1], counts[-1]
    return np.repeat(means, counts)
