import math

import numpy as np
import pytest

from splitpoint.channel.config import ConstantConfig, OutageConfig, build_link
from splitpoint.channel.outages import BurstOutages, ListedOutages


def test_listed_windows():
    outages = ListedOutages([(1, 2), (4, 6)])
    assert outages.window(0.0) == (1.0, 2.0)
    assert outages.window(1.5) == (1.0, 2.0)
    assert outages.window(2.0) == (4.0, 6.0)
    assert outages.window(6.0) == (math.inf, math.inf)


def test_share_and_mean_length_of_bursts():
    outages, t, downs, ups = BurstOutages(8.0, 2.0, 1, 0), 0.0, [], []
    while t < 40_000:
        begin, end = outages.window(t)
        ups.append(begin - t)
        downs.append(end - begin)
        t = end
    assert np.mean(downs) == pytest.approx(2.0, rel=0.06)
    assert np.mean(ups) == pytest.approx(8.0, rel=0.06)
    assert np.std(ups) == pytest.approx(8.0, rel=0.06)


def test_bursts_are_stationary_from_the_start():
    down = [BurstOutages(8.0, 2.0, 1, device).window(0.0)[0] == 0.0 for device in range(1500)]
    assert np.mean(down) == pytest.approx(0.2, abs=0.04)


def test_bursts_do_not_depend_on_the_order_of_asking():
    early, late = BurstOutages(8.0, 2.0, 1, 0), BurstOutages(8.0, 2.0, 1, 0)
    late.window(5000.0)
    assert [early.window(t) for t in range(0, 900, 7)] == [late.window(t) for t in range(0, 900, 7)]


def test_shared_outages_hit_all_devices_at_once():
    def ups(shared, device):
        outages = OutageConfig(mean_up_s=5, mean_down_s=5, shared=shared)
        link = build_link(ConstantConfig(rate_bps=1e6, outages=outages), 1, device)
        return [link.state(t).up for t in range(200)]

    assert ups(True, 0) == ups(True, 1)
    assert ups(False, 0) != ups(False, 1)
    assert any(ups(False, 0))
    assert not all(ups(False, 0))
