import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.channel.config import (
    AwgnConfig,
    ConstantConfig,
    GilbertElliottConfig,
    OutageConfig,
    RayleighConfig,
    build_link,
)
from splitpoint.channel.link import GIVE_UP_S
from splitpoint.channel.rate import wire_bytes

FADING = RayleighConfig(mean_snr_db=10.0, doppler_hz=20.0, slot_s=0.005, bandwidth_hz=1e5)


def integral(link, begin, end, slot_s):
    """Bits carried in [begin, end], by brute force over the slots."""
    edges = [begin, *np.arange(math.floor(begin / slot_s) + 1, math.ceil(end / slot_s)) * slot_s, end]
    return sum((b - a) * link.state(0.5 * (a + b)).rate_bps for a, b in itertools.pairwise(edges) if b > a)


def test_headers_cost_forty_bytes_a_packet():
    assert [wire_bytes(n) for n in (0, 1, 1400, 1401, 2800)] == [40, 41, 1440, 1481, 2880]


@given(nbytes=st.integers(0, 10**6), t=st.floats(0, 1e5))
def test_constant_rate_takes_bits_over_rate(nbytes, t):
    link = build_link(ConstantConfig(rate_bps=2e6), seed=0, device=0)
    assert link.transfer_time(nbytes, t, 2) == pytest.approx(8 * wire_bytes(nbytes) / 2e6, rel=1e-9, abs=1e-9)


@given(nbytes=st.integers(1, 300_000), t=st.floats(0, 50))
def test_a_varying_rate_is_integrated(nbytes, t):
    link = build_link(FADING, seed=3, device=1)
    duration = link.transfer_time(nbytes, t, 2)
    carried = integral(link, t, t + duration, 0.005)
    assert carried == pytest.approx(8 * wire_bytes(nbytes), rel=1e-6)


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(1, 40_000), st.integers(0, 10**6)), max_size=12))
def test_answers_do_not_depend_on_the_order_of_asking(asked):
    config = GilbertElliottConfig(loss=0.05, bad_loss=0.6, outages=OutageConfig(mean_up_s=9, mean_down_s=1))
    forward, backward = build_link(config, 5, 2), build_link(config, 5, 2)
    there = [(forward.transfer_time(n, t, k), forward.state(t)) for t, n, k in asked]
    back = [(backward.transfer_time(n, t, k), backward.state(t)) for t, n, k in reversed(asked)]
    assert there == back[::-1]


@given(t=st.floats(0, 100), early=st.floats(0, 1), nbytes=st.integers(1, 20_000))
def test_a_later_start_never_arrives_earlier(t, early, nbytes):
    link = build_link(FADING, seed=1, device=0)
    assert t + early + link.transfer_time(nbytes, t + early, 0) >= t + link.transfer_time(nbytes, t, 0) - 1e-9


TIMES = np.arange(0.0, 200.0, 0.5).tolist()
SILENCE = np.zeros(4, np.complex64)


@pytest.mark.parametrize(
    ("config", "drawn"),
    [
        (FADING, lambda link: [link.snr_db(t) for t in TIMES]),
        (AwgnConfig(shadowing_db=4.0), lambda link: [link.snr_db(0.0)]),
        (
            ConstantConfig(rate_bps=1e6, loss=0.2),
            lambda link: [link.packets(14_000, 0.0, key)[0] for key in range(50)],
        ),
        (
            GilbertElliottConfig(mean_good_s=3.0, mean_bad_s=3.0),
            lambda link: [link.state(t).loss for t in TIMES],
        ),
        (
            ConstantConfig(rate_bps=1e6, outages=OutageConfig(mean_up_s=3.0, mean_down_s=3.0)),
            lambda link: [link.up(t) for t in TIMES],
        ),
        (AwgnConfig(), lambda link: link.corrupt(SILENCE, 0.0, 2).tolist()),
    ],
    ids=["fading", "shadowing", "loss", "gilbert-elliott", "outages", "noise"],
)
def test_all_that_is_drawn_is_keyed_by_seed_and_device(config, drawn):
    found = [tuple(drawn(build_link(config, *key))) for key in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 0))]
    assert found[4] == found[0]
    assert len(set(found)) == 4


def test_overlapping_an_outage_swallows():
    config = ConstantConfig(rate_bps=8e5, outages=OutageConfig(windows=((2.0, 3.0), (5.0, 6.0))))
    link = build_link(config, 0, 0)
    second = 97_200  # bytes that take a second: 70 packets
    assert wire_bytes(second) == 100_000
    assert link.transfer_time(second, 0.9, 0) == pytest.approx(1.0)
    assert link.transfer_time(second, 1.1, 0) == math.inf
    assert link.transfer_time(1, 2.5, 0) == math.inf
    assert link.transfer_time(second, 3.0, 0) == pytest.approx(1.0)
    assert [link.state(t).up for t in (1.9, 2.0, 2.9, 3.0, 5.5)] == [True, False, False, True, False]
    assert link.state(2.5).rate_bps == 0.0
    assert [link.cut_off(t) for t in (1.1, 2.5, 3.5, 7.0)] == [2.0, 2.5, 5.0, 7.0 + GIVE_UP_S]


def test_a_fade_without_end_counts_as_swallowed():
    link = build_link(AwgnConfig(mean_snr_db=-150.0), 0, 0)
    assert link.transfer_time(1000, 0.0, 0) == math.inf


def test_losses_cost_the_mean_number_of_retransmissions():
    link = build_link(ConstantConfig(rate_bps=1e6, loss=0.2), 4, 0)
    times = [link.transfer_time(14_000, 0.0, key) for key in range(4000)]
    # Ten packets, each sent 1 / (1 - loss) times; standard error of the mean 0.5 %.
    assert np.mean(times) == pytest.approx(0.1152 / 0.8, rel=0.02)
    assert min(times) == pytest.approx(0.1152)


def test_symbols_take_one_channel_use_each():
    link = build_link(ConstantConfig(rate_bps=1e6, bandwidth_hz=2e5), 0, 0)
    assert link.transfer_time(100, 0.0, 0, symbols=1000) == pytest.approx(0.005 + 8 * 140 / 1e6)
    down = ConstantConfig(rate_bps=1e9, bandwidth_hz=1e3, outages=OutageConfig(windows=((0.5, 0.6),)))
    assert build_link(down, 0, 0).transfer_time(1, 0.0, 0, symbols=1000) == math.inf


def test_symbols_that_take_longer_than_anybody_waits_are_swallowed():
    link = build_link(ConstantConfig(rate_bps=1e6, bandwidth_hz=10.0), 0, 0)
    assert link.transfer_time(100, 0.0, 0, symbols=590) == pytest.approx(59.0 + 8 * 140 / 1e6)
    assert link.transfer_time(100, 0.0, 0, symbols=610) == math.inf
