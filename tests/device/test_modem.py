"""A board's own modem, as its owner reads it."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time

import pytest

from splitpoint.channel.report import Measurement, Reading
from splitpoint.device.client import Client
from splitpoint.device.modem import ReadModem, own_modem
from splitpoint.policies.decision import Decision

from .conftest import Server, Small

PATIENCE_S = 10.0
"""Enough on a machine that is busy with other things."""


def test_what_is_read_now_is_the_newest_measurement() -> None:
    assert own_modem(lambda: (12.0, 1e6), PATIENCE_S)(3.0) == Measurement(3.0, Reading(12.0, 1e6))
    assert own_modem(lambda: None, PATIENCE_S)(3.0) == Measurement(3.0, None)


def test_the_snr_may_be_unknown() -> None:
    found = own_modem(lambda: (math.nan, 1e6), PATIENCE_S)(3.0)
    assert found is not None
    assert found.reading is not None
    assert math.isnan(found.reading.snr_db)
    assert found.reading.rate_bps == 1e6


def broken() -> tuple[float, float]:
    raise OSError("no such device: /dev/ttyUSB2")


@pytest.mark.parametrize(
    "read", [broken, sys.exit, lambda: (1.0, 0.0), lambda: (1.0, math.nan), lambda: "12 dB"]
)
def test_a_modem_that_cannot_be_read_measures_nothing_and_is_told_once(
    read: object, caplog: pytest.LogCaptureFixture
) -> None:
    modem = own_modem(read, PATIENCE_S)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        assert [modem(t) for t in (1.0, 2.0, 3.0)] == [None, None, None]
    assert len(caplog.records) == 1
    assert "the modem cannot be read" in caplog.text


def test_a_modem_that_never_returns_is_waited_for_once(caplog: pytest.LogCaptureFixture) -> None:
    modem = own_modem(lambda: threading.Event().wait(), 0.05)  # type: ignore[arg-type,return-value]
    with caplog.at_level(logging.WARNING):
        begun_s = time.monotonic()
        assert [modem(float(t)) for t in range(50)] == [None] * 50
    assert 0.05 <= time.monotonic() - begun_s < 1.0
    assert len(caplog.records) == 1


def test_what_a_slow_modem_says_counts_as_of_when_it_was_asked() -> None:
    go = threading.Event()
    said = iter([(1.0, 1e6), (2.0, 1e6), (3.0, 1e6)])

    def read() -> tuple[float, float]:
        go.wait()
        go.clear()
        return next(said)

    modem = own_modem(read, 0.2)
    assert modem(1.0) is None
    assert modem(2.0) is None
    go.set()
    while go.is_set():
        time.sleep(0.001)
    time.sleep(0.05)
    assert modem(3.0) == Measurement(1.0, Reading(1.0, 1e6))
    go.set()
    while go.is_set():
        time.sleep(0.001)
    time.sleep(0.05)
    # Fast again: what is new counts, and not what came late.
    go.set()
    assert modem(4.0) == Measurement(4.0, Reading(3.0, 1e6))


def client(server: Server, small: Small, modem: ReadModem) -> Client:
    return Client(
        server.address, small.folder, policy=Decision(2, keep=0.5, bits=4), deadline_s=2.0, modem=modem
    )


def test_a_client_sends_only_while_its_modem_hears_the_network(server: Server, small: Small) -> None:
    heard = True
    with client(server, small, lambda: (10.0, 1e6) if heard else None) as device:
        assert device.infer(small.image(0)).where == "server"
        heard = False
        result = device.infer(small.image(0))
        assert (result.where, result.degraded, result.uplink_bytes) == ("local", True, 0)
        assert not device.link_up
        heard = True
        assert device.infer(small.image(0)).where == "server"


def test_a_modem_that_hangs_costs_a_client_no_answer(server: Server, small: Small) -> None:
    with client(server, small, lambda: threading.Event().wait()) as device:  # type: ignore[arg-type,return-value]
        results = [device.infer(small.image(seed)) for seed in range(3)]
        assert [(result.where, result.late) for result in results] == [("server", False)] * 3
