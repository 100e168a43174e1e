"""95 % intervals against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from splitpoint.sim.intervals import interval_of_p95, interval_of_share, mean_and_half


@pytest.mark.parametrize("count", [2, 3, 7, 40, 1000, 200_000])
def test_the_interval_of_a_mean_is_students(count: int) -> None:
    values = np.random.default_rng(count).normal(3.0, 2.0, count)
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    mean, half = mean_and_half(values)
    assert mean == pytest.approx(values.mean())
    assert half == pytest.approx((high - low) / 2, rel=1e-6)


def test_of_one_value_there_is_a_mean_of_none_there_is_nothing() -> None:
    assert mean_and_half([2.0]) == (2.0, pytest.approx(np.nan, nan_ok=True))
    assert mean_and_half([]) == pytest.approx((np.nan, np.nan), nan_ok=True)


def test_the_share_lies_in_its_interval_and_that_within_0_and_1_whatever_is_rounded() -> None:
    for count in range(1, 400):
        for right in {0, 1, count - 1, count}:
            answers = np.arange(count) < right
            low, high = interval_of_share(answers)
            assert 0.0 <= low <= answers.mean() <= high <= 1.0


@pytest.mark.parametrize("count", [200, 1000])
def test_the_interval_of_the_95_percent_quantile_holds_it_that_often(count: int) -> None:
    draws = np.random.default_rng(3)
    truth = -np.log(0.05)
    held = [
        low <= truth <= high
        for low, high in (interval_of_p95(draws.exponential(1.0, count)) for _ in range(2000))
    ]
    assert 0.93 < np.mean(held) < 0.98
