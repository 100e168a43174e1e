"""What many devices believe about their links: `estimate.LinkEstimate` on arrays, in the units of FEATURES.

    SNR in tens of dB | log10 of the rate in Mbit/s | round trip in deadlines

In these units the spread of the rate in tens of dB is the standard deviation of its logarithm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..estimate import MEMORY, PRIOR_SIGMA_DB
from ..features import PRIOR_SIGMA

__all__ = ["LinkEstimates"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_UNKNOWN = PRIOR_SIGMA**2
_PRIOR = (0.1 * PRIOR_SIGMA_DB) ** 2

_SHORTEST_S = 1e-9
"""Who waited for a reply waited longer: so is there a logarithm for all others too."""

# Steps of the running means and of the variance by how many values were seen: a plain mean at first, then a fixed
# memory. Row 0 is for who has no new value. A first value is taken whole; it says nothing of the variance, which
# then goes from what is said without a report to what is expected before a spread can be seen.
_STEPS = np.array(
    [4 * (0.0,), (1.0, 1.0, 1.0, 1.0 - _PRIOR / _UNKNOWN)]
    + [4 * (1.0 / count if count * MEMORY < 1.0 else MEMORY,) for count in range(2, 64)]
).T.copy()


class LinkEstimates:
    """N devices, all arrays (N,); `where` says whose report or reply it is.

    features   (5, N), the first of FEATURES: known, SNR, rate, its spread, round trip; as of the last `look`
    """

    def __init__(self, features: Array, coherence_s: float) -> None:
        copies = features.shape[1]
        self.features = features
        features[:] = 0.0
        self._forgets_per_s = 1.0 / coherence_s
        self._replies = np.zeros(copies, np.int64)
        self._at_s = np.full(copies, -np.inf)
        self._variance = np.full(copies, _UNKNOWN)
        # Rows: SNR, rate, round trip. What was last believed of the first two is the mean and the rest.
        self._mean, self._rest = np.zeros((3, copies)), np.zeros((2, copies))

    def reply(self, where: Mask, now_s: Array, report: Array, round_trip: Array) -> None:
        """The modem's report (2, N) that came with a reply, and the part of its time that nothing else explains."""
        told = where.astype(np.int64)
        self._replies += told
        told *= self._replies
        steps = _STEPS.take(told, axis=1, mode="clip")
        mean = self._mean
        deviation = np.empty(mean.shape)
        np.subtract(report, mean[:2], out=deviation[:2])
        np.subtract(round_trip, mean[2], out=deviation[2])
        moved = deviation * steps[:3]
        mean += moved
        rest = deviation - moved
        spread = deviation[1] * rest[1]
        spread -= self._variance
        spread *= steps[3]
        self._variance += spread
        np.putmask(self._rest[0], where, rest[0])
        np.putmask(self._rest[1], where, rest[1])
        np.putmask(self._at_s, where, now_s)
        np.putmask(self.features[0], where, 1.0)

    def no_reply(self, where: Mask, now_s: Array, nbytes: NDArray[np.int64], seconds: Array) -> None:
        """No reply to so many bytes within `seconds`: the rate is at most what that makes."""
        rest: Array = np.log10(8e-6 * nbytes / np.maximum(seconds, _SHORTEST_S))
        rest -= self._mean[1]
        trust = self._at_s - now_s
        trust *= self._forgets_per_s
        np.exp(trust, out=trust)
        trust *= self._rest[1]
        lower = where & (self._replies > 0) & (trust > rest)
        np.putmask(self._rest[1], lower, rest)
        np.putmask(self._at_s, lower, now_s)

    def look(self, now_s: Array) -> None:
        """What is believed at `now_s`: `features` anew."""
        trust = self._at_s - now_s
        trust *= self._forgets_per_s
        np.exp(trust, out=trust)
        link = self.features[1:3]
        # One after the other, for arrays of one shape are multiplied much faster than others.
        np.multiply(self._rest[0], trust, out=link[0])
        np.multiply(self._rest[1], trust, out=link[1])
        link += self._mean[:2]
        trust *= trust
        np.subtract(1.0, trust, out=trust)
        trust *= self._variance
        np.sqrt(trust, out=self.features[3])
        self.features[4] = self._mean[2]
