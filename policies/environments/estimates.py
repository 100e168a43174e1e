"""What many devices believe about their links: `estimate.LinkEstimate` on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..estimate import DECIBEL, MEMORY, PRIOR_SIGMA_DB

__all__ = ["LinkEstimates"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# The step of a running mean by how many values it has seen: a plain mean at first, then a fixed memory.
_STEPS = np.array([1.0, *(1.0 / count if count * MEMORY < 1.0 else MEMORY for count in range(1, 64))])


class LinkEstimates:
    """N devices, all arrays (N,); `where` says whose report, reply or silence it is."""

    def __init__(self, copies: int, coherence_s: float) -> None:
        self._coherence_s = coherence_s
        self._replies = np.zeros(copies, np.int64)
        self._at_s = np.full(copies, -np.inf)
        self._variance = np.full(copies, (PRIOR_SIGMA_DB / DECIBEL) ** 2)
        # Rows: SNR in dB, log of the rate, round trip. A first value is taken whole: the step is 1.
        self._last, self._mean = np.zeros((2, copies)), np.zeros((3, copies))

    @property
    def round_trip_s(self) -> Array:
        """0 before the first reply."""
        return self._mean[2]

    def reply(self, where: Mask, now_s: Array, snr_db: Array, rate_bps: Array, round_trip_s: Array) -> None:
        """The modem's report that came with a reply, and the part of its time that nothing else explains."""
        values = np.empty((3, len(now_s)))
        values[0] = snr_db
        np.log(np.maximum(rate_bps, 1.0), out=values[1])
        np.maximum(round_trip_s, 0.0, out=values[2])
        self._replies += where
        step = _STEPS.take(self._replies, mode="clip")
        deviation = values - self._mean
        mean = self._mean + step * deviation
        spread = step * (deviation[1] * (values[1] - mean[1]) - self._variance)
        np.copyto(self._at_s, now_s, where=where)
        np.copyto(self._last, values[:2], where=where)
        np.copyto(self._mean, mean, where=where)
        np.add(self._variance, spread, out=self._variance, where=where & (self._replies > 1))

    def no_reply(self, places: NDArray[np.int64], now_s: Array, nbytes: Array, seconds: Array) -> None:
        """No reply within `seconds`, for the devices at `places`: the rate is at most the bytes over that time."""
        known = self._replies[places] > 0
        places, now_s, nbytes, seconds = places[known], now_s[known], nbytes[known], seconds[known]
        trust = np.exp((self._at_s[places] - now_s) / self._coherence_s)
        mean = self._mean[1, places]
        believed = mean + trust * (self._last[1, places] - mean)
        bound = np.log(8.0 * nbytes / seconds)
        lower = believed > bound
        self._last[1, places[lower]] = bound[lower]
        self._at_s[places[lower]] = now_s[lower]

    def at(self, now_s: Array) -> tuple[Array, Array, Array]:
        """(SNR in dB, rate in bit/s, standard deviation of the rate in dB) believed; rate NaN before a report."""
        trust = np.exp((self._at_s - now_s) / self._coherence_s)
        mean = self._mean[:2]
        snr_db, log_rate = mean + trust * (self._last - mean)
        rate_bps = np.exp(log_rate)
        rate_bps[self._replies == 0] = np.nan
        return snr_db, rate_bps, DECIBEL * np.sqrt(self._variance * (1.0 - trust * trust))
