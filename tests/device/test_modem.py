"""A board's own modem, as its owner reads it."""

from __future__ import annotations

import logging
import math

import pytest

from splitpoint.channel.report import Measurement, Reading
from splitpoint.device.client import Client
from splitpoint.device.modem import own_modem
from splitpoint.policies.decision import Decision

from .conftest import Server, Small


def test_what_is_read_now_is_the_newest_measurement() -> None:
    assert own_modem(lambda: (12.0, 1e6))(3.0) == Measurement(3.0, Reading(12.0, 1e6))
    assert own_modem(lambda: None)(3.0) == Measurement(3.0, None)


def test_the_snr_may_be_unknown() -> None:
    found = own_modem(lambda: (math.nan, 1e6))(3.0)
    assert found is not None
    assert found.reading is not None
    assert math.isnan(found.reading.snr_db)
    assert found.reading.rate_bps == 1e6


def broken() -> tuple[float, float]:
    raise OSError("no such device: /dev/ttyUSB2")


@pytest.mark.parametrize("read", [broken, lambda: (1.0, 0.0), lambda: (1.0, math.nan), lambda: "12 dB"])
def test_a_modem_that_cannot_be_read_measures_nothing_and_is_told_once(
    read: object, caplog: pytest.LogCaptureFixture
) -> None:
    modem = own_modem(read)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        assert [modem(t) for t in (1.0, 2.0, 3.0)] == [None, None, None]
    assert len(caplog.records) == 1
    assert "the modem cannot be read" in caplog.text


def test_a_client_sends_only_while_its_modem_hears_the_network(server: Server, small: Small) -> None:
    heard = True
    policy = Decision(2, keep=0.5, bits=4)
    with Client(
        server.address,
        small.folder,
        policy=policy,
        deadline_s=2.0,
        modem=lambda: (10.0, 1e6) if heard else None,
    ) as client:
        assert client.infer(small.image(0)).where == "server"
        heard = False
        result = client.infer(small.image(0))
        assert (result.where, result.degraded, result.uplink_bytes, client.link_up) == (
            "local",
            True,
            0,
            False,
        )
        heard = True
        assert client.infer(small.image(0)).where == "server"
