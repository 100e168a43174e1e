import numpy as np
import pytest
from scipy.special import erfc

from splitpoint.channel.config import AwgnConfig, RayleighConfig, build_link


def q(x):
    return 0.5 * erfc(x / np.sqrt(2.0))


def bits_and_symbols(count, per_symbol):
    bits = np.random.default_rng(1).integers(0, 2, (count, per_symbol))
    levels = 1.0 - 2.0 * bits
    symbols = levels[:, 0] + 0j if per_symbol == 1 else (levels[:, 0] + 1j * levels[:, 1]) / np.sqrt(2.0)
    return bits, symbols.astype(np.complex64)


def decided(received, per_symbol):
    parts = [received.real] if per_symbol == 1 else [received.real, received.imag]
    return np.stack([part < 0.0 for part in parts], axis=1)


@pytest.mark.parametrize("snr_db", [0.0, 4.0, 7.0])
@pytest.mark.parametrize(("per_symbol", "gain"), [(1, 2.0), (2, 1.0)])
def test_bit_error_rate_of_bpsk_and_qpsk_is_the_q_function(snr_db, per_symbol, gain):
    link = build_link(AwgnConfig(mean_snr_db=snr_db), 0, 0)
    bits, symbols = bits_and_symbols(200_000, per_symbol)
    errors = (decided(link.corrupt(symbols, 0.0, 1), per_symbol) != bits).mean()
    expected = q(np.sqrt(gain * 10 ** (snr_db / 10)))
    # Four standard errors.
    assert errors == pytest.approx(expected, abs=4 * np.sqrt(expected / bits.size))


def test_bpsk_over_rayleigh_has_the_closed_form_error_rate():
    # 400 messages far apart, each over one slot: independent fades.
    link = build_link(RayleighConfig(mean_snr_db=10.0, doppler_hz=10.0, bandwidth_hz=1e6), 2, 0)
    bits, symbols = bits_and_symbols(500, 1)
    errors = np.mean(
        [(decided(link.corrupt(symbols, 0.5 * key, key), 1) != bits).mean() for key in range(1600)]
    )
    expected = 0.5 * (1.0 - np.sqrt(10.0 / 11.0))
    assert errors == pytest.approx(expected, rel=0.15)


def test_noise_is_keyed_and_white():
    link = build_link(AwgnConfig(mean_snr_db=3.0), 0, 0)
    silence = np.zeros(100_000, np.complex64)
    first, again, other = (link.corrupt(silence, t, key) for t, key in ((0.0, 1), (5.0, 1), (0.0, 2)))
    assert first.dtype == np.complex64
    assert (first == again).all()
    assert abs(np.vdot(first, other)) / 1e5 < 0.01
    assert np.mean(np.abs(first) ** 2) == pytest.approx(10**-0.3, rel=0.02)
    assert np.mean(first.real * first.imag) == pytest.approx(0.0, abs=0.005)


def test_corrupt_keeps_the_shape():
    link = build_link(AwgnConfig(mean_snr_db=60.0), 0, 0)
    symbols = np.full((3, 4), 1 + 1j, np.complex64)
    assert np.allclose(link.corrupt(symbols, 0.0, 0), symbols, atol=0.02)
    assert link.corrupt(np.zeros((0, 4), np.complex64), 0.0, 0).shape == (0, 4)


def test_a_long_message_meets_the_fades_of_its_slots():
    config = RayleighConfig(mean_snr_db=0.0, doppler_hz=30.0, slot_s=0.01, bandwidth_hz=1e5)
    link = build_link(config, 7, 0)
    received = link.corrupt(np.zeros(300_000, np.complex64), 0.0, 0).reshape(300, 1000)
    power = np.mean(np.abs(received) ** 2, axis=1)
    expected = [10 ** (-link.state((k + 0.5) * 0.01).snr_db / 10) for k in range(300)]
    assert power == pytest.approx(np.array(expected), rel=0.2)


@pytest.mark.parametrize("gap_db", [0.0, 3.0])
def test_rate_is_shannons_with_a_gap(gap_db):
    config = AwgnConfig(mean_snr_db=12.0, bandwidth_hz=3e5, gap_db=gap_db, rate_scale=0.25)
    state = build_link(config, 0, 0).state(17.0)
    assert state.snr_db == 12.0
    assert state.rate_bps == pytest.approx(0.25 * 3e5 * np.log2(1 + 10 ** ((12.0 - gap_db) / 10)))


def test_shadowing_spreads_the_means_of_devices():
    config = AwgnConfig(mean_snr_db=10.0, shadowing_db=4.0)
    means = [build_link(config, 0, device).state(0.0).snr_db for device in range(400)]
    assert np.mean(means) == pytest.approx(10.0, abs=0.6)
    assert np.std(means) == pytest.approx(4.0, rel=0.12)
