"""A link without a modem: rate and base told apart by the sizes of the messages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.policies.estimate import LinkEstimate
from splitpoint.policies.round_trip import RoundTripFit
from splitpoint.seeding import generator


@given(
    st.floats(1e4, 1e8),
    st.floats(0.0, 0.2),
    st.lists(st.integers(100, 50_000), min_size=2, max_size=30).filter(lambda sizes: sizes[0] > 2 * sizes[1]),
)
def test_two_sizes_tell_rate_and_base_apart(rate_bps: float, base_s: float, sizes: list[int]) -> None:
    fit = RoundTripFit()
    for size in sizes:
        on_air_s = 8.0 * size / rate_bps
        found_bps = fit.add(8.0 * size, base_s + on_air_s)
    share = on_air_s / (base_s + on_air_s)
    if share < 0.02:  # hardly any of the time was on the air: the rate is at least not overestimated
        assert found_bps <= rate_bps * 1.001
    elif share > 0.1:
        assert found_bps == pytest.approx(rate_bps, rel=1e-3)
    assert fit.base_s == pytest.approx(base_s, abs=1e-6 + 1e-6 * 8.0 * max(sizes) / rate_bps)


def test_equal_sizes_leave_the_base_unknown() -> None:
    fit = RoundTripFit()
    assert [fit.add(8e3, 0.1) for _ in range(5)] == pytest.approx([8e4] * 5)
    assert fit.base_s == 0.0


def test_larger_messages_that_are_quicker_teach_no_base() -> None:
    fit = RoundTripFit()
    for bits, seconds in ((1e3, 0.3), (1e5, 0.1), (1e3, 0.4)):
        fit.add(bits, seconds)
    assert fit.base_s == 0.0


def test_it_follows_a_link_that_changes() -> None:
    fit = RoundTripFit()
    sizes = (300, 3_000, 1_000)
    for step in range(150):
        rate_bps, base_s = (1e6, 0.02) if step < 60 else (2e5, 0.08)
        bits = 8.0 * sizes[step % 3]
        found_bps = fit.add(bits, base_s + bits / rate_bps)
    assert fit.base_s == pytest.approx(0.08, rel=0.02)
    assert found_bps == pytest.approx(2e5, rel=0.05)


def test_under_fading_it_beats_bytes_over_all_the_time() -> None:
    draws = generator(1, "fit")
    estimate, errors = LinkEstimate(0.5), []
    for step in range(400):
        rate_bps = 1e6 * math.exp(0.3 * draws.standard_normal())
        nbytes = int(draws.choice([400, 1_500, 6_000]))
        seconds = 0.05 + 8.0 * nbytes / rate_bps
        estimate.measured(float(step), nbytes, seconds)
        naive_bps = 8.0 * nbytes / seconds
        if step > 50:
            believed_bps = estimate.at(float(step))[1]
            errors.append((abs(math.log(believed_bps / rate_bps)), abs(math.log(naive_bps / rate_bps))))
    fitted, naive = np.median(errors, axis=0)
    assert fitted < 0.5 * naive


def test_the_base_is_the_round_trip_that_policies_see() -> None:
    estimate = LinkEstimate(0.5)
    for nbytes in (500, 5_000, 500):
        base_s = estimate.measured(0.0, nbytes, 0.05 + 8.0 * nbytes / 1e6)
    assert base_s == pytest.approx(0.05)
    assert estimate.at(0.0)[1] == pytest.approx(1e6)
