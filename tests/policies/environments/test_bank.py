"""Transfers on many links at once end where one link's own arithmetic ends them."""

from __future__ import annotations

import numpy as np
import pytest

from splitpoint.channel.config import build_link
from splitpoint.channel.link_config import RayleighConfig
from splitpoint.policies.environments.bank import LinkBank

SECONDS = 60.0
LINK = RayleighConfig(doppler_hz=3.0, rate_scale=0.05)


@pytest.mark.parametrize("bits", [1.0, 3e3, 1e5, 2e6])
def test_transfers_take_as_long_as_on_one_link(bits: float) -> None:
    links = [build_link(LINK, 5, device) for device in range(3)]
    bank = LinkBank(links, SECONDS)
    begins_s = np.random.default_rng(0).uniform(0.0, 10.0, 200)
    place = np.arange(200) % 3
    sizes = np.full(200, bits)
    took_s = bank.air_s(np.ones(200, bool), sizes, bank.origin_s[place] + begins_s)
    for begin_s, link, seconds in zip(begins_s.tolist(), place.tolist(), took_s.tolist(), strict=True):
        assert seconds == pytest.approx(links[link].air_time(bits, begin_s), rel=1e-9, abs=1e-9)


def test_what_does_not_end_takes_for_ever() -> None:
    bank = LinkBank([build_link(LINK, 5, 0)], SECONDS)
    late_s = bank.origin_s + 1e5
    for begin_s in (bank.origin_s, late_s):
        assert np.isinf(bank.air_s(np.ones(1, bool), np.array([1e15]), begin_s)).all()
