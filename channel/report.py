"""What the modem tells its host about the link: an SNR that is quantised, old and noisy.

It comes with every reply. A modem that listens to what the network sends out by itself (a beacon of Wi-Fi every 102.4
ms, reference signals of a cell every few) also knows of the link while nothing is sent: `every_s`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import NamedTuple

from .draws import NormalDraws
from .link import Link
from .medium import Medium

__all__ = ["BESIDE_S", "Measurement", "Modem", "Reading", "SnrReport"]


BESIDE_S = 1e-6
"""Modems measure by themselves this much after multiples of `every_s`: there, slots and a trace's milliseconds begin,
and how a time is rounded would decide which of them is met."""


class Reading(NamedTuple):
    """snr_db as reported; rate_bps that the link would have at that SNR."""

    snr_db: float
    rate_bps: float


class Measurement(NamedTuple):
    """What the modem measured by itself: when the host could know it first; None: it heard nothing, in an outage."""

    known_s: float
    reading: Reading | None


Modem = Callable[[float], Measurement | None]
"""What a modem last measured by itself, by the time."""

# With a tuple of all fields: several times cheaper than a NamedTuple's constructor.
_new = tuple.__new__


class SnrReport:
    """The reports of one link.

    A reply's report is a function of (seed, "snr-report", device, request id, time), a measurement one of (seed,
    "snr-measurement", device, how many came before it).

    step_db    SNR is rounded to multiples of this; 0 does not round
    delay_s    age of the measurement when it is reported
    sigma_db   standard deviation of the measurement's error, before rounding
    every_s    time between measurements that need no reply; None: there are none
    medium     where the medium limits the rate too (Mahimahi), the one of the way up
    requests   how many there will be, where that is known
    """

    def __init__(
        self,
        link: Link,
        *,
        step_db: float,
        delay_s: float,
        sigma_db: float,
        every_s: float | None = None,
        seed: int,
        medium: Medium | None = None,
        requests: int = 0,
    ) -> None:
        self.every_s = every_s
        self._link = link
        self._step_db, self._delay_s, self._sigma_db = step_db, delay_s, sigma_db
        self._medium = medium
        self._errors = NormalDraws(seed, "snr-report", link.device, expected=requests + 1 if requests else 0)
        self._own_errors = NormalDraws(seed, "snr-measurement", link.device)

    def read(self, t: float, request_id: int) -> Reading:
        """The report that comes with the reply to `request_id` at time `t`."""
        measured_s = t - self._delay_s
        if measured_s < 0.0:
            measured_s = 0.0
        return self._reading(measured_s, self._errors[request_id] if self._sigma_db else 0.0)

    def newest(self, t: float) -> Measurement | None:
        """The last measurement that is known at time `t`; None before the first, and where there are none."""
        if self.every_s is None or t < self._delay_s:
            return None
        index = floor((t - self._delay_s) / self.every_s)
        measured_s = index * self.every_s + BESIDE_S
        # No later than now, however the sum is rounded.
        known_s = min(measured_s + self._delay_s, t)
        if not self._link.up(measured_s):
            return Measurement(known_s, None)
        return Measurement(known_s, self._reading(measured_s, self._own_errors[index]))

    def _reading(self, measured_s: float, error: float) -> Reading:
        """error: of the measurement, in standard deviations."""
        snr_db = self._link.snr_db(measured_s) + self._sigma_db * error
        if self._step_db:
            snr_db = self._step_db * floor(snr_db / self._step_db + 0.5)
        rate_bps = self._link.rate.at(snr_db)
        if self._medium is not None:
            rate_bps = min(rate_bps, self._medium.rate_bps(measured_s))
        return _new(Reading, (snr_db, rate_bps))
