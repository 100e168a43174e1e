import numpy as np
import pytest
from pydantic import ValidationError

from splitpoint.channel.config import AwgnConfig, RayleighConfig, SnrReportConfig, build_link, build_report


def test_without_error_it_is_the_true_state():
    link = build_link(RayleighConfig(), 0, 0)
    report = build_report(SnrReportConfig(step_db=0, delay_s=0, sigma_db=0), link, 0)
    state = link.state(3.21)
    assert report.read(3.21, 5) == (state.snr_db, pytest.approx(state.rate_bps))


def test_it_is_old():
    link = build_link(RayleighConfig(doppler_hz=50.0), 0, 0)
    report = build_report(SnrReportConfig(step_db=0, delay_s=0.3, sigma_db=0), link, 0)
    assert report.read(1.0, 0).snr_db == link.state(0.7).snr_db
    assert report.read(0.1, 0).snr_db == link.state(0.0).snr_db


def test_it_is_rounded_to_steps():
    link = build_link(RayleighConfig(), 0, 0)
    report = build_report(SnrReportConfig(step_db=2, delay_s=0, sigma_db=0), link, 0)
    for t in np.arange(0, 3, 0.05).tolist():
        snr_db = report.read(t, 0).snr_db
        assert snr_db % 2 == 0
        assert abs(snr_db - link.state(t).snr_db) <= 1


def test_its_error_is_keyed_by_request_and_device():
    config = SnrReportConfig(step_db=0, delay_s=0, sigma_db=3.0)
    reports = [build_report(config, build_link(AwgnConfig(), 0, device), 0) for device in (0, 1)]
    errors = np.array(
        [[report.read(1.0, request).snr_db - 15.0 for request in range(3000)] for report in reports]
    )
    assert errors.std() == pytest.approx(3.0, rel=0.05)
    assert errors.mean() == pytest.approx(0.0, abs=0.15)
    assert abs(np.corrcoef(errors)[0, 1]) < 0.06
    assert reports[0].read(8.0, 77).snr_db - 15.0 == errors[0, 77]


def test_the_rate_is_that_at_the_reported_snr():
    link = build_link(AwgnConfig(), 0, 0)
    reading = build_report(SnrReportConfig(sigma_db=5.0, step_db=0.0), link, 0).read(1.0, 3)
    assert reading.snr_db != 15.0
    assert reading.rate_bps == link.rate.at(reading.snr_db)


def test_how_many_requests_are_expected_changes_no_report():
    config = SnrReportConfig(step_db=0, delay_s=0, sigma_db=3.0)
    link = build_link(AwgnConfig(), 0, 0)
    known, unknown = build_report(config, link, 4, requests=700), build_report(config, link, 4)
    # Beyond what was expected too, and back.
    for request in [1, 2, 64, 65, 300, 700, 701, 2000, 1 << 40, 703, 130, 3]:
        assert known.read(1.0, request) == unknown.read(1.0, request)


def measuring(link, **changes):
    config = SnrReportConfig(**{"step_db": 0, "delay_s": 0.02, "sigma_db": 0, "every_s": 0.1} | changes)
    return build_report(config, link, 0)


def test_a_modem_that_measures_by_itself_says_what_was_at_its_last_time():
    link = build_link(RayleighConfig(), 0, 0)
    report = measuring(link)
    assert report.newest(0.019) is None
    for t, measured_s in ((0.02, 0.0), (0.119, 0.0), (0.121, 0.1), (7.77, 7.7)):
        found = report.newest(t)
        assert found.known_s == pytest.approx(measured_s + 0.02, abs=2e-6)
        assert found.known_s <= t
        # A little after the round time, at which a block of fading begins.
        assert found.reading.snr_db == link.snr_db(measured_s + 5e-6)
    # Multiples of .3 are rounded: some of them lie before the block of fading that they begin.
    report = measuring(link, every_s=0.3)
    for index in range(40):
        assert report.newest(0.3 * index + 0.05).reading.snr_db == link.snr_db(0.3 * index + 5e-6)


def test_a_modem_that_does_not_measure_says_nothing():
    assert measuring(build_link(RayleighConfig(), 0, 0), every_s=None).newest(5.0) is None


@pytest.mark.parametrize("every_s", [0.0, -0.1, 5e-324, 1e-6, np.nan, np.inf])
def test_no_modem_measures_without_a_pause(every_s):
    with pytest.raises(ValidationError, match="every_s"):
        SnrReportConfig(every_s=every_s)


def test_in_an_outage_a_modem_hears_nothing():
    link = build_link(AwgnConfig(outages={"windows": [(1.0, 2.0)]}), 0, 0)
    report = measuring(link)
    heard = {t: report.newest(t).reading is not None for t in (0.9, 1.01, 1.03, 1.5, 2.01, 2.15)}
    assert heard == {0.9: True, 1.01: True, 1.03: False, 1.5: False, 2.01: False, 2.15: True}


def test_errors_of_measurements_are_keyed_and_not_those_of_replies():
    link = build_link(AwgnConfig(), 0, 0)
    report, again = (measuring(link, sigma_db=3.0) for _ in range(2))
    times = 0.05 + 0.1 * np.arange(3000)
    errors = np.array([report.newest(t).reading.snr_db - 15.0 for t in times])
    assert errors.std() == pytest.approx(3.0, rel=0.05)
    assert errors.mean() == pytest.approx(0.0, abs=0.2)
    assert again.newest(times[77]).reading.snr_db - 15.0 == errors[77]
    replies = np.array([report.read(1.0, index).snr_db - 15.0 for index in range(3000)])
    assert abs(np.corrcoef(errors, replies)[0, 1]) < 0.06
