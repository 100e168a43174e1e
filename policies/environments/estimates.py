"""What many devices believe about their links: `estimate.LinkEstimate` on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..estimate import DECIBEL, MEMORY, PRIOR_SIGMA_DB

__all__ = ["LinkEstimates"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class LinkEstimates:
    """N devices, all arrays (N,); `where` says whose report, reply or silence it is."""

    def __init__(self, copies: int, coherence_s: float) -> None:
        self._coherence_s = coherence_s
        self._at_s = np.full(copies, -np.inf)
        self._snr_db, self._mean_snr_db, self._log_rate, self._mean_log_rate = np.full((4, copies), np.nan)
        self._variance = np.full(copies, (PRIOR_SIGMA_DB / DECIBEL) ** 2)
        self._replies = np.zeros(copies)
        self.round_trip_s = np.full(copies, np.nan)
        self.server_load = np.full(copies, np.nan)

    def reply(
        self, where: Mask, now_s: Array, snr_db: Array, rate_bps: Array, round_trip_s: Array, load: float
    ) -> None:
        """The modem's report that came with a reply; the part of its time that nothing else explains; the load."""
        first = where & (self._replies == 0.0)
        if first.any():
            for mean in (self._mean_snr_db, self._mean_log_rate, self.round_trip_s):
                mean[first] = 0.0
        self._replies += where
        # The running mean's step: a plain mean at first, then a fixed memory; a first value is taken whole.
        step = 1.0 / np.maximum(self._replies, 1.0)
        step = np.where(self._replies * MEMORY < 1.0, step, MEMORY)
        log_rate = np.log(np.maximum(rate_bps, 1.0))
        deviation = log_rate - self._mean_log_rate
        mean_log_rate = self._mean_log_rate + step * deviation
        spread = step * (deviation * (log_rate - mean_log_rate) - self._variance)
        for field, value in (
            (self._at_s, now_s),
            (self._snr_db, snr_db),
            (self._log_rate, log_rate),
            (self._mean_log_rate, mean_log_rate),
            (self._mean_snr_db, self._mean_snr_db + step * (snr_db - self._mean_snr_db)),
            (
                self.round_trip_s,
                self.round_trip_s + step * (np.maximum(0.0, round_trip_s) - self.round_trip_s),
            ),
        ):
            np.copyto(field, value, where=where)
        self.server_load[where] = load
        np.add(self._variance, spread, out=self._variance, where=where & ~first)

    def no_reply(self, where: Mask, now_s: Array, nbytes: Array, seconds: Array) -> None:
        """No reply within `seconds`: for now the rate is at most the bytes over that time."""
        with np.errstate(divide="ignore", invalid="ignore"):
            bound_bps = 8.0 * nbytes / seconds
            lower = where & (seconds > 0.0) & (self.at(now_s)[1] > bound_bps)
            np.copyto(self._log_rate, np.log(bound_bps), where=lower)
        np.copyto(self._at_s, now_s, where=lower)

    def at(self, now_s: Array) -> tuple[Array, Array, Array]:
        """(SNR in dB, rate in bit/s, standard deviation of the rate in dB) believed at `now_s`; NaN before a report."""
        trust = np.exp((self._at_s - now_s) / self._coherence_s)
        snr_db = self._mean_snr_db + trust * (self._snr_db - self._mean_snr_db)
        log_rate = self._mean_log_rate + trust * (self._log_rate - self._mean_log_rate)
        sigma_db = DECIBEL * np.sqrt(self._variance * (1.0 - trust * trust))
        return snr_db, np.exp(log_rate), sigma_db
