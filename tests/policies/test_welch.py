"""Welch's test agrees with scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from splitpoint.policies.welch import incomplete_beta, welch

VALUES = st.floats(-1e3, 1e3, allow_nan=False, width=32)
SAMPLES = st.lists(VALUES, min_size=2, max_size=30).filter(lambda sample: np.var(sample) > 1e-6)


@settings(max_examples=150)
@given(SAMPLES, SAMPLES)
def test_p_is_scipys(a: list[float], b: list[float]) -> None:
    expected = stats.ttest_ind(a, b, equal_var=False, alternative="greater")
    moments = [(np.mean(sample), np.var(sample, ddof=1), len(sample)) for sample in (a, b)]
    assert welch(*moments[0], *moments[1]) == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-12)


@given(st.floats(0, 1), st.floats(0.05, 500), st.floats(0.05, 500))
def test_incomplete_beta_is_scipys(x: float, a: float, b: float) -> None:
    assert incomplete_beta(x, a, b) == pytest.approx(special.betainc(a, b, x), rel=1e-9, abs=1e-12)


def test_far_tails_keep_their_digits() -> None:
    for t, df in [(50.0, 3.0), (400.0, 2.0), (12.0, 80.0)]:
        n = (df + 2) / 2
        # Equal variances and sizes: df = 2 (n - 1).
        p = welch(t * math.sqrt(2 / n), 1.0, n, 0.0, 1.0, n)
        assert p == pytest.approx(stats.t.sf(t, df), rel=1e-9)


def test_arrays_give_what_single_cases_give() -> None:
    draws = np.random.default_rng(0)
    mean, var, other = draws.normal(size=500), draws.uniform(1e-4, 1, 500), draws.uniform(1e-4, 1, 500)
    size = draws.integers(2, 9, 500)
    p = welch(mean, var, size, 0.0, other, 3)
    for i in range(0, 500, 7):
        assert p[i] == welch(mean[i], var[i], size[i], 0.0, other[i], 3)
