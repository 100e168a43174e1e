"""What of a round trip depends on the message's size, where no modem says what the link carries."""

from __future__ import annotations

__all__ = ["RoundTripFit"]

_MEMORY = 0.1
"""Least weight of the newest round trip; the first ones count as in a plain mean."""

_SPREAD = 0.1
"""Sizes must differ by this part of their mean (standard deviation) before they can tell base from rate."""

_LEAST_SHARE = 0.02
"""At least this part of a round trip is taken for time on the air, however large the base seems."""


class RoundTripFit:
    """seconds = base_s + bits / rate, by least squares over round trips that count less the older they are.

    Until sizes differ, and where larger messages did not take longer, nothing new is learned about the base; it
    is 0 at first, so that the rate is then bits over all the time, which is less than the link carries.
    """

    def __init__(self) -> None:
        self.base_s = 0.0
        self._count = 0
        self._bits = self._seconds = 0.0
        self._variance = self._covariance = 0.0

    def add(self, bits: float, seconds: float) -> float:
        """A round trip of `bits` that took `seconds`, the server's left out: the rate that it went at, in bit/s."""
        self._count += 1
        weight = max(_MEMORY, 1.0 / self._count)
        more_bits, more_s = bits - self._bits, seconds - self._seconds
        self._bits += weight * more_bits
        self._seconds += weight * more_s
        self._variance = (1.0 - weight) * (self._variance + weight * more_bits * more_bits)
        self._covariance = (1.0 - weight) * (self._covariance + weight * more_bits * more_s)
        if self._covariance > 0.0 and self._variance > (_SPREAD * self._bits) ** 2:
            self.base_s = max(0.0, self._seconds - self._bits * self._covariance / self._variance)
        return bits / max(seconds - self.base_s, _LEAST_SHARE * seconds)
