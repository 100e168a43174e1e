import numpy as np
import pytest
from scipy.special import exp1, j0
from scipy.stats import kstest

from splitpoint.channel.config import RayleighConfig, RicianConfig, build_link
from splitpoint.channel.path import middles
from splitpoint.channel.rayleigh import Sinusoids, power_db
from splitpoint.seeding import generator

DOPPLER_HZ, SLOT_S = 10.0, 0.005


@pytest.fixture(scope="module")
def gains():
    """(devices, slots) complex gains; 256 slots of 5 ms are some 12 coherence times."""
    return Sinusoids(DOPPLER_HZ, SLOT_S, 11, range(3000)).gains(3)


def test_gains_are_the_sum_of_sinusoids_at_the_middle_of_each_slot(gains):
    theta, phi = generator(11, "fading", 7).uniform(-np.pi, np.pi, (2, 32))
    angles = (2.0 * np.pi * np.arange(32) + theta) / 32
    waves = 2.0 * np.pi * DOPPLER_HZ * middles(3, SLOT_S)[:, None] * np.cos(angles) + phi
    np.testing.assert_allclose(gains[7], np.exp(1j * waves).sum(axis=1) / np.sqrt(32), atol=1e-4)


def test_power_is_exponential(gains):
    power = np.abs(gains[:, 128]) ** 2
    # Independent devices, 3 000 draws: the 1 % quantile of the statistic is 0.03.
    assert kstest(power, "expon").statistic < 0.03
    assert np.mean(np.abs(gains) ** 2) == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 1.0])
def test_outage_probability(gains, threshold):
    expected = 1.0 - np.exp(-threshold)
    assert np.mean(np.abs(gains) ** 2 < threshold) == pytest.approx(expected, rel=0.08)


def test_autocorrelation_is_bessel(gains):
    lags = np.arange(0, 60, 4)
    measured = [np.mean(gains[:, lag:] * np.conj(gains[:, : 256 - lag])) for lag in lags]
    expected = j0(2 * np.pi * DOPPLER_HZ * SLOT_S * lags)
    # 3 000 devices times some independent places each: standard error about 0.007.
    assert np.real(measured) == pytest.approx(expected, abs=0.03)
    assert np.imag(measured) == pytest.approx(0.0, abs=0.03)


def test_one_device_sees_all_fades_in_time():
    fading = Sinusoids(DOPPLER_HZ, SLOT_S, 1, [0])
    power = np.concatenate([np.abs(fading.gains(chunk)[0]) ** 2 for chunk in range(600)])
    assert power.mean() == pytest.approx(1.0, rel=0.02)
    assert np.mean(power < 0.1) == pytest.approx(1 - np.exp(-0.1), rel=0.15)


def test_chunks_join_without_a_step():
    fading = Sinusoids(2.0, 0.001, 1, [0])
    joined = np.concatenate([fading.gains(0)[0], fading.gains(1)[0]])
    steps = np.abs(np.diff(joined))
    assert steps[255] < 2 * max(steps[254], steps[256])


def test_ergodic_capacity_is_the_closed_form():
    # E[log2(1 + g·s)] = exp(1/s) E1(1/s) / ln 2
    snr = 10.0
    config = RayleighConfig(mean_snr_db=10.0, gap_db=0.0, bandwidth_hz=1.0, doppler_hz=DOPPLER_HZ)
    rates = [
        build_link(config, 5, device).state(0.5 * k).rate_bps for device in range(300) for k in range(10)
    ]
    assert np.mean(rates) == pytest.approx(np.exp(1 / snr) * exp1(1 / snr) / np.log(2), rel=0.02)


def test_no_doppler_is_a_channel_that_stays():
    link = build_link(RayleighConfig(doppler_hz=0.0), 0, 0)
    assert link.state(0.0).snr_db == pytest.approx(link.state(9000.0).snr_db, abs=1e-4)


def test_a_null_is_no_infinity():
    assert power_db(np.zeros(3, np.complex64)).tolist() == [-300.0] * 3


def test_rician_fades_less_the_stronger_the_line_of_sight():
    def powers(k_factor_db):
        config = RicianConfig(mean_snr_db=0.0, k_factor_db=k_factor_db, doppler_hz=DOPPLER_HZ)
        return 10 ** (0.1 * np.array([build_link(config, 2, d).state(1.0).snr_db for d in range(3000)]))

    for k_factor_db in (0.0, 10.0):
        k = 10 ** (0.1 * k_factor_db)
        power = powers(k_factor_db)
        assert power.mean() == pytest.approx(1.0, rel=0.04)
        # Var |h|² = (1 + 2K) / (1 + K)²
        assert power.var() == pytest.approx((1 + 2 * k) / (1 + k) ** 2, rel=0.1)
