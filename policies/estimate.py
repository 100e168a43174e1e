"""What the device believes about its link, from the modem's reports or from its own stopwatch."""

from __future__ import annotations

import math
from math import exp, sqrt

from ..channel.report import Measurement
from .round_trip import RoundTripFit

__all__ = ["MEMORY", "PRIOR_SIGMA_DB", "LinkEstimate"]

MEMORY = 0.1
"""Least weight of the newest report in the running moments; the first ones count as in a plain mean."""

_NEVER = -math.inf
_UNKNOWN = math.nan, math.nan, math.nan

_DECIBEL = 10.0 / math.log(10.0)
PRIOR_SIGMA_DB = 6.0
"""Spread that is expected before it can be seen: about that of Rayleigh fading."""


class LinkEstimate:
    """SNR, rate and round trip as last reported, drawn towards their running means as the report ages.

    A fading link forgets: after `coherence_s` a report says 1/e as much about now as when it was new. Without
    this, a device that answered locally after one bad report would never learn that the fade is over. The rate is
    taken as log-normal; its spread grows with the report's age to that of all reports so far. Values are NaN
    before the first report.

    signal   False where the modem heard nothing when it last measured by itself
    """

    def __init__(self, coherence_s: float) -> None:
        self.coherence_s = coherence_s
        self.signal = True
        self._at_s = _NEVER
        self._snr_db = self._mean_snr_db = math.nan
        self._log_rate = self._mean_log_rate = math.nan
        self._variance = (PRIOR_SIGMA_DB / _DECIBEL) ** 2
        self._reports = self._snr_reports = self._replies = 0
        self._modem_says = False
        self._fit = RoundTripFit()
        self.round_trip_s = math.nan
        self.server_load = math.nan

    def report(self, now_s: float, snr_db: float, rate_bps: float) -> None:
        """The modem's report; snr_db may be NaN, where it says the rate only."""
        self._rate(now_s, rate_bps)
        if snr_db != snr_db:
            self._snr_db = self._mean_snr_db
            return
        self._snr_reports = count = self._snr_reports + 1
        self._snr_db = snr_db
        self._mean_snr_db = _towards(self._mean_snr_db, snr_db, count)

    def heard(self, measurement: Measurement | None) -> None:
        """What the modem measured by itself; None where it did not: then nothing says that the signal is gone.

        A reading that is older than the last report is passed.
        """
        if measurement is None:
            self.signal, self._modem_says = True, False
            return
        known_s, reading = measurement
        self.signal = self._modem_says = reading is not None
        if reading is not None and known_s > self._at_s:
            self.report(known_s, *reading)

    def measured(self, now_s: float, nbytes: int, seconds: float) -> float:
        """A round trip without the server's time, and no report with it: the seconds that size does not explain.

        Where the modem told the rate by itself, that is what size is reckoned with: it knows nothing of the way beyond.
        """
        if self._modem_says:
            return seconds - 8.0 * nbytes / exp(self._log_rate)
        if nbytes > 0 and seconds > 0:
            self._rate(now_s, self._fit.add(8.0 * nbytes, seconds))
        return self._fit.base_s

    def no_reply(self, now_s: float, nbytes: int, seconds: float) -> None:
        """A request that got no reply within `seconds`: for now the rate is at most its bytes over that time.

        It says nothing about the long run, for the medium or the server may have been the reason.
        """
        _, believed_bps, _ = self.at(now_s)
        if seconds > 0 and believed_bps > (bound_bps := 8.0 * nbytes / seconds):
            self._at_s, self._log_rate = now_s, math.log(bound_bps)

    def reply(self, round_trip_s: float, server_load: float) -> None:
        """The part of a reply's time that neither airtime nor the server explains, and the server's load."""
        self._replies += 1
        self.round_trip_s = _towards(self.round_trip_s, max(0.0, round_trip_s), self._replies)
        self.server_load = server_load

    def at(self, now_s: float) -> tuple[float, float, float]:
        """(SNR in dB, rate in bit/s, standard deviation of the rate in dB) believed at `now_s`."""
        at_s = self._at_s
        if at_s == _NEVER:
            return _UNKNOWN
        trust = exp((at_s - now_s) / self.coherence_s)
        mean_snr_db, mean_log_rate = self._mean_snr_db, self._mean_log_rate
        snr_db = mean_snr_db + trust * (self._snr_db - mean_snr_db)
        log_rate = mean_log_rate + trust * (self._log_rate - mean_log_rate)
        return snr_db, exp(log_rate), _DECIBEL * sqrt(self._variance * (1.0 - trust * trust))

    def _rate(self, now_s: float, rate_bps: float) -> None:
        self._at_s = now_s
        self._log_rate = math.log(max(rate_bps, 1.0))
        self._reports += 1
        before = self._mean_log_rate
        self._mean_log_rate = mean = _towards(before, self._log_rate, self._reports)
        if self._reports > 1:
            deviation = (self._log_rate - before) * (self._log_rate - mean)
            self._variance += max(MEMORY, 1.0 / self._reports) * (deviation - self._variance)


def _towards(mean: float, value: float, count: int) -> float:
    if count * MEMORY < 1.0:
        return value if count == 1 else mean + (value - mean) / count
    return mean + MEMORY * (value - mean)
