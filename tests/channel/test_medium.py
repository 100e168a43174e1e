import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.channel.config import (
    ConstantConfig,
    DedicatedConfig,
    FifoConfig,
    OutageConfig,
    RayleighConfig,
    build_link,
    build_medium,
)  # fmt: skip

LINKS = [build_link(RayleighConfig(bandwidth_hz=1e5), 0, device) for device in range(3)]
MESSAGES = st.lists(
    st.tuples(st.floats(0, 0.2), st.integers(0, 2), st.integers(1, 20_000)), min_size=1, max_size=20
)


@given(MESSAGES)
def test_fifo_sends_one_at_a_time_in_order_and_never_idles_with_work(messages):
    medium, now, free = build_medium(FifoConfig()), 0.0, 0.0
    for key, (gap, device, nbytes) in enumerate(messages):
        now += gap
        start, done, airtime = medium.submit(now, LINKS[device], nbytes, key)
        assert start == max(now, free)
        assert airtime == LINKS[device].transfer_time(nbytes, start, key)
        assert done == start + airtime
        free = done
    assert medium.next_completion() == math.inf
    assert medium.pop_completed(math.inf) == []


def test_fifo_is_free_again_when_an_outage_begins():
    medium = build_medium(FifoConfig())
    down = build_link(ConstantConfig(rate_bps=1e6, outages=OutageConfig(windows=((0.5, 2.0),))), 0, 0)
    fine = build_link(ConstantConfig(rate_bps=1e6), 0, 1)
    assert medium.submit(0.2, down, 1_000_000, 0) == (0.2, math.inf, pytest.approx(0.3))
    assert medium.submit(0.3, fine, 1400, 0).start_s == 0.5
    # Swallowed at once: no time on the air.
    assert medium.submit(1.0, down, 1400, 0) == (1.0, math.inf, 0.0)
    assert medium.submit(1.0, fine, 1400, 0).start_s == 1.0


def test_fifo_agrees_with_m_d_1():
    # Mean wait of M/D/1: rho / (2 (1 - rho)) services.
    link = build_link(ConstantConfig(rate_bps=8 * 1440 / 0.01), 0, 0)
    medium, now, waits = build_medium(FifoConfig()), 0.0, []
    for gap in np.random.default_rng(4).exponential(0.01 / 0.7, 60_000).tolist():
        now += gap
        waits.append(medium.submit(now, link, 1400, 0).start_s - now)
    assert np.mean(waits) == pytest.approx(0.01 * 0.7 / (2 * 0.3), rel=0.06)


@given(MESSAGES)
def test_dedicated_media_are_one_fifo_a_device(messages):
    medium, now = build_medium(DedicatedConfig()), 0.0
    alone = {device: build_medium(FifoConfig()) for device in range(3)}
    for key, (gap, device, nbytes) in enumerate(messages):
        now += gap
        together = medium.submit(now, LINKS[device], nbytes, key)
        assert together == alone[device].submit(now, LINKS[device], nbytes, key)
