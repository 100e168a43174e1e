"""What the modem tells its host about the link: an SNR that is quantised, old and noisy."""

from __future__ import annotations

from math import floor
from typing import NamedTuple

from .draws import NormalDraws
from .link import Link
from .medium import Medium

__all__ = ["Reading", "SnrReport"]


class Reading(NamedTuple):
    """snr_db as reported; rate_bps that the link would have at that SNR."""

    snr_db: float
    rate_bps: float


# With a tuple of all fields: several times cheaper than a NamedTuple's constructor.
_new = tuple.__new__


class SnrReport:
    """The reports of one link. A report is a function of (seed, "snr-report", device, request id, time).

    step_db    SNR is rounded to multiples of this; 0 does not round
    delay_s    age of the measurement when it is reported
    sigma_db   standard deviation of the measurement's error, before rounding
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
        seed: int,
        medium: Medium | None = None,
        requests: int = 0,
    ) -> None:
        self._link = link
        self._step_db, self._delay_s, self._sigma_db = step_db, delay_s, sigma_db
        self._medium = medium
        self._errors = NormalDraws(seed, "snr-report", link.device, expected=requests + 1 if requests else 0)

    def read(self, t: float, request_id: int) -> Reading:
        """The report that comes with the reply to `request_id` at time `t`."""
        measured_s = t - self._delay_s
        if measured_s < 0.0:
            measured_s = 0.0
        snr_db = self._link.snr_db(measured_s)
        if self._sigma_db:
            snr_db += self._sigma_db * self._errors[request_id]
        if self._step_db:
            snr_db = self._step_db * floor(snr_db / self._step_db + 0.5)
        rate_bps = self._link.rate.at(snr_db)
        if self._medium is not None:
            rate_bps = min(rate_bps, self._medium.rate_bps(measured_s))
        return _new(Reading, (snr_db, rate_bps))
