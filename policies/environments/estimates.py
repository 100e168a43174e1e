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

_SHORTEST_S = np.array(1e-9)
"""Who waited for a reply waited longer: so is there a logarithm for all others too."""

# Without axes: NumPy takes it as it is, and looks for a float's type each time.
_ONE = np.array(1.0)

# Steps of a running mean by how many values were seen: a plain mean at first, then a fixed memory. Row 0 is for who
# has no new value. A first report is taken whole; it says nothing of the variance, which then goes from what is said
# without a report to what is expected before a spread can be seen. Steps of SNR, rate and variance: columns of one
# look-up.
_MEAN_STEPS = np.array([0.0] + [max(1.0 / count, MEMORY) for count in range(1, 64)])
_REPORT_STEPS = np.stack([_MEAN_STEPS, _MEAN_STEPS, _MEAN_STEPS])
_REPORT_STEPS[2, 1] = 1.0 - _PRIOR / _UNKNOWN


class LinkEstimates:
    """N devices, all arrays (N,); `where` says whose report or reply it is.

    features   (5, N), the first of FEATURES: known, SNR, rate, its spread, round trip; as of the last `look`
    """

    def __init__(self, features: Array, coherence_s: float) -> None:
        copies = features.shape[1]
        self.features = features
        features[:] = 0.0
        self._forgets_per_s = np.array(1.0 / coherence_s)
        self._reports, self._replies = np.zeros((2, copies), np.int64)
        self._at_s = np.full(copies, -np.inf)
        self._variance = np.full(copies, _UNKNOWN)
        # Rows: SNR, rate, round trip. What was last believed of the first two is the mean and the rest.
        self._mean, self._rest = np.zeros((3, copies)), np.zeros((2, copies))

    def is_news(self, known_s: Array) -> Mask:
        """Whether what is known since `known_s` is newer than the last report."""
        return known_s > self._at_s

    def report(self, where: Mask, now_s: Array, report: Array) -> None:
        """The modem's report (2, N)."""
        steps = _REPORT_STEPS.take(_counted(self._reports, where), axis=1, mode="clip")
        mean = self._mean[:2]
        deviation = report - mean
        moved = deviation * steps[:2]
        mean += moved
        rest = deviation - moved
        spread = deviation[1] * rest[1]
        spread -= self._variance
        spread *= steps[2]
        self._variance += spread
        np.putmask(self._rest[0], where, rest[0])
        np.putmask(self._rest[1], where, rest[1])
        np.putmask(self._at_s, where, now_s)
        np.putmask(self.features[0], where, 1.0)

    def reply(self, where: Mask, round_trip: Array) -> None:
        """The part of a reply's time that nothing else explains."""
        moved = round_trip - self._mean[2]
        moved *= _MEAN_STEPS.take(_counted(self._replies, where), mode="clip")
        self._mean[2] += moved

    def no_reply(self, where: Mask, now_s: Array, nbytes: NDArray[np.int64], seconds: Array) -> None:
        """No reply to so many bytes within `seconds`: the rate is at most what that makes."""
        rest: Array = np.log10(8e-6 * nbytes / np.maximum(seconds, _SHORTEST_S))
        rest -= self._mean[1]
        trust = self._at_s - now_s
        trust *= self._forgets_per_s
        np.exp(trust, out=trust)
        trust *= self._rest[1]
        lower = where & (self._reports > 0) & (trust > rest)
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
        np.subtract(_ONE, trust, out=trust)
        trust *= self._variance
        np.sqrt(trust, out=self.features[3])
        self.features[4] = self._mean[2]


def _counted(counts: NDArray[np.int64], where: Mask) -> NDArray[np.int64]:
    """One more where `where`; what it then is there, and 0 elsewhere."""
    told = where.astype(np.int64)
    counts += told
    told *= counts
    return told
