"""What the device believes about its link."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.channel.report import Measurement, Reading
from splitpoint.policies.estimate import PRIOR_SIGMA_DB, LinkEstimate


def test_nothing_is_known_before_the_first_report() -> None:
    estimate = LinkEstimate(0.5)
    assert all(math.isnan(value) for value in estimate.at(0.0))
    assert math.isnan(estimate.round_trip_s)
    assert math.isnan(estimate.server_load)


def test_a_fresh_report_is_believed_as_it_is() -> None:
    estimate = LinkEstimate(0.5)
    for at_s, snr_db, rate_bps in ((0.0, 10.0, 1e6), (5.0, 20.0, 1e7)):
        estimate.report(at_s, snr_db, rate_bps)
        assert estimate.at(at_s) == (pytest.approx(snr_db), pytest.approx(rate_bps), 0.0)


def test_an_old_report_is_forgotten_towards_the_mean() -> None:
    estimate = LinkEstimate(0.5)
    for _ in range(200):
        estimate.report(0.0, 20.0, 1e7)
    estimate.report(1.0, 0.0, 1e5)
    # Means after the bad one: a tenth of the way, the rate's in its logarithm.
    mean_snr, mean_log = 18.0, math.log(1e7) - 0.1 * math.log(100.0)
    trust = math.exp(-1.0)
    snr_db, rate_bps, _ = estimate.at(1.5)
    assert snr_db == pytest.approx(mean_snr * (1 - trust))
    assert math.log(rate_bps) == pytest.approx(mean_log + trust * (math.log(1e5) - mean_log))
    assert estimate.at(100.0)[0] == pytest.approx(mean_snr)


def test_what_the_modem_measured_by_itself_counts_where_it_is_news() -> None:
    estimate = LinkEstimate(0.5)
    estimate.report(1.0, 10.0, 1e6)
    estimate.heard(Measurement(0.9, Reading(20.0, 1e7)))
    assert estimate.at(1.0)[0] == pytest.approx(10.0)
    estimate.heard(Measurement(1.1, Reading(20.0, 1e7)))
    assert estimate.at(1.1) == (pytest.approx(20.0), pytest.approx(1e7), 0.0)


def test_hearing_nothing_leaves_the_rate_and_says_that_the_signal_is_gone() -> None:
    estimate = LinkEstimate(0.5)
    assert estimate.signal
    estimate.report(1.0, 10.0, 1e6)
    estimate.heard(Measurement(1.1, None))
    assert not estimate.signal
    assert estimate.at(1.0)[0] == pytest.approx(10.0)
    estimate.heard(Measurement(1.2, Reading(9.0, 1e6)))
    assert estimate.signal


def test_a_modem_that_can_no_longer_be_read_does_not_keep_the_device_silent() -> None:
    estimate = LinkEstimate(0.5)
    estimate.heard(Measurement(1.1, None))
    assert not estimate.signal
    estimate.heard(None)
    assert estimate.signal


def test_an_snr_that_is_not_known_does_not_hide_those_that_are() -> None:
    timed, silent = LinkEstimate(0.5), LinkEstimate(0.5)
    timed.measured(0.5, 1000, 0.01)
    silent.heard(Measurement(0.5, Reading(math.nan, 1e6)))
    for estimate in (timed, silent):
        assert math.isnan(estimate.at(0.6)[0])
        estimate.heard(Measurement(1.0, Reading(10.0, 1e6)))
        assert estimate.at(1.0)[:2] == (pytest.approx(10.0), pytest.approx(1e6))
        assert estimate.at(9.0)[0] == pytest.approx(10.0)
        estimate.heard(Measurement(2.0, Reading(math.nan, 1e6)))
        assert estimate.at(2.0)[0] == pytest.approx(10.0)


def test_what_lies_beyond_the_modem_is_round_trip() -> None:
    estimate = LinkEstimate(0.5)
    estimate.heard(Measurement(1.0, Reading(20.0, 8e6)))
    assert estimate.measured(1.3, 1000, 0.3) == pytest.approx(0.299)
    assert estimate.at(1.0)[1] == pytest.approx(8e6)
    # Without it, size and time are all there is.
    estimate.heard(None)
    assert estimate.measured(2.0, 1000, 0.3) == 0.0
    assert estimate.at(2.0)[1] == pytest.approx(8000 / 0.3)


def test_uncertainty_grows_with_age() -> None:
    estimate = LinkEstimate(0.5)
    estimate.report(0.0, 10.0, 1e6)
    spreads = [estimate.at(t)[2] for t in (0.0, 0.1, 0.5, 5.0)]
    assert spreads == sorted(spreads)
    assert spreads[0] == 0.0 < spreads[1]


def test_the_spread_is_that_of_fading_before_any_can_be_seen() -> None:
    estimate = LinkEstimate(0.5)
    estimate.report(0.0, 10.0, 1e6)
    # After one coherence time the report is worth 1/e of its worth.
    assert estimate.at(0.5)[2] == pytest.approx(PRIOR_SIGMA_DB * math.sqrt(1.0 - math.exp(-2.0)))


def test_a_measurement_that_is_looked_at_again_counts_once() -> None:
    once, again = LinkEstimate(0.5), LinkEstimate(0.5)
    for known_s, rate_bps in ((1.0, 1e6), (2.0, 1e7)):
        once.heard(Measurement(known_s, Reading(10.0, rate_bps)))
        for _ in range(5):
            again.heard(Measurement(known_s, Reading(10.0, rate_bps)))
    assert again.at(9.0) == once.at(9.0)


def test_a_rate_of_nothing_is_a_bit_a_second() -> None:
    estimate = LinkEstimate(0.5)
    estimate.report(0.0, -300.0, 0.0)
    assert estimate.at(0.0)[1] == 1.0


def test_bytes_over_time_stand_in_for_a_modem() -> None:
    estimate = LinkEstimate(0.5)
    estimate.measured(0.0, 12_500, 0.1)
    snr_db, rate_bps, _ = estimate.at(0.0)
    assert rate_bps == pytest.approx(1e6)
    assert math.isnan(snr_db)
    estimate.measured(0.0, 0, 0.1)
    estimate.measured(0.0, 100, 0.0)
    assert estimate.at(0.0)[1] == pytest.approx(1e6)


def test_no_reply_bounds_the_rate_for_now_and_never_raises_it() -> None:
    estimate = LinkEstimate(0.5)
    estimate.report(0.0, 10.0, 1e6)
    estimate.no_reply(0.0, 1000, 0.1)
    assert estimate.at(0.0)[1] == pytest.approx(8e4)
    assert estimate.at(50.0)[1] == pytest.approx(1e6)
    estimate.no_reply(50.0, 10**9, 0.1)
    assert estimate.at(50.0)[1] == pytest.approx(1e6)


def test_no_reply_before_any_report_teaches_nothing() -> None:
    estimate = LinkEstimate(0.5)
    estimate.no_reply(0.0, 1000, 0.1)
    assert math.isnan(estimate.at(0.0)[1])


def test_the_first_round_trips_count_as_in_a_plain_mean_and_none_is_negative() -> None:
    estimate = LinkEstimate(0.5)
    for seconds in (0.01, 0.03, -1.0, 0.0):
        estimate.reply(seconds, 3.0)
    assert estimate.round_trip_s == pytest.approx(0.01)
    assert estimate.server_load == 3.0


@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(-20.0, 60.0), st.floats(1e2, 1e9)), min_size=1),
    st.floats(0.0, 20.0),
)
def test_the_belief_lies_between_the_reports(reports: list[tuple[float, float, float]], age_s: float) -> None:
    estimate, now_s = LinkEstimate(0.5), 0.0
    for step_s, snr_db, rate_bps in reports:
        now_s += step_s
        estimate.report(now_s, snr_db, rate_bps)
    snr_db, rate_bps, sigma_db = estimate.at(now_s + age_s)
    snrs, rates = [r[1] for r in reports], [r[2] for r in reports]
    assert min(snrs) - 1e-6 <= snr_db <= max(snrs) + 1e-6
    assert min(rates) * (1 - 1e-6) <= rate_bps <= max(rates) * (1 + 1e-6)
    assert sigma_db >= 0.0
