"""95 % intervals of what a run measured: of a mean, of a share, of the 95 % quantile; values taken as independent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..policies.welch import incomplete_beta

__all__ = ["interval_of_p95", "interval_of_share", "mean_and_half"]

_Z_95 = 1.96
"""Two-sided 95 % quantile of the normal distribution."""


@lru_cache(maxsize=256)
def _student(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t for 1 or more degrees of freedom, by bisection."""
    low, high = 1.9, 12.8
    while high - low > 1e-9:
        t = 0.5 * (low + high)
        beyond = float(incomplete_beta(freedom / (freedom + t * t), 0.5 * freedom, 0.5))
        low, high = (t, high) if beyond > 0.05 else (low, t)
    return high


def mean_and_half(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The mean and half its interval, by Student's t; nan where there are too few values for it."""
    values = np.asarray(values, float)
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        return mean, float("nan")
    return mean, _student(len(values) - 1) * float(values.std(ddof=1)) / len(values) ** 0.5


def interval_of_share(right: np.ndarray) -> tuple[float, float]:
    """Wilson's interval of a share, of bool (N,): it stays within 0 and 1, and is no point where all are right."""
    count = len(right)
    if not count:
        return float("nan"), float("nan")
    share, unsure = float(right.mean()), _Z_95 * _Z_95 / count
    centre = (share + unsure / 2.0) / (1.0 + unsure)
    half = _Z_95 * (share * (1.0 - share) / count + unsure / (4.0 * count)) ** 0.5 / (1.0 + unsure)
    # Rounding must not leave the share itself outside, for bars are drawn from it, nor reach beyond 0 and 1.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def interval_of_p95(values: np.ndarray) -> tuple[float, float]:
    """Of the 95 % quantile of at least one value: order statistics at the ranks that a binomial gives."""
    ordered = np.sort(values)
    half = _Z_95 * (len(ordered) * 0.95 * 0.05) ** 0.5
    ranks = np.clip([0.95 * len(ordered) - half - 1, 0.95 * len(ordered) + half], 0, len(ordered) - 1)
    centre = float(np.quantile(ordered, 0.95))
    low, high = (float(ordered[round(rank)]) for rank in ranks)
    return min(low, centre), max(high, centre)
