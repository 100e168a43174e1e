"""From SNR to bit rate, and from bytes to those that go over the air."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEADER_BYTES", "PACKET_BYTES", "FixedRate", "Rate", "ShannonRate", "wire_bytes"]

PACKET_BYTES = 1400
HEADER_BYTES = 40


def wire_bytes(nbytes: int) -> int:
    """Bytes on the air for a message of `nbytes`, headers included, if no packet is lost."""
    return nbytes + HEADER_BYTES * (-(-nbytes // PACKET_BYTES) or 1)


class Rate(Protocol):
    """Bit rate of a link as a function of its SNR, for one value and for an array."""

    bandwidth_hz: float

    def at(self, snr_db: float) -> float: ...

    def over(self, snr_db: NDArray[np.float64]) -> NDArray[np.float64]: ...


class ShannonRate:
    """rate = scale · W · log2(1 + SNR / gap), in bit/s: Shannon's capacity with an SNR gap.

    bandwidth_hz   W; also the symbols a second on a symbol link
    gap_db         what real modulation and coding lose against capacity; 0 is capacity itself
    scale          the scenario's `rate_scale`, which puts airtime near the head's time
    """

    def __init__(self, bandwidth_hz: float, gap_db: float = 0.0, scale: float = 1.0) -> None:
        self.bandwidth_hz = bandwidth_hz
        self._gap_db = gap_db
        self._scaled_hz = bandwidth_hz * scale

    def at(self, snr_db: float) -> float:
        return self._scaled_hz * math.log2(1.0 + 10.0 ** (0.1 * (snr_db - self._gap_db)))

    def over(self, snr_db: NDArray[np.float64]) -> NDArray[np.float64]:
        # As `at`, step by step in one array: links draw their slots by it.
        rates: NDArray[np.float64] = snr_db - self._gap_db
        rates *= 0.1
        np.power(10.0, rates, out=rates)
        rates += 1.0
        np.log2(rates, out=rates)
        rates *= self._scaled_hz
        return rates


class FixedRate:
    """The same rate at every SNR."""

    def __init__(self, rate_bps: float, bandwidth_hz: float) -> None:
        self.bandwidth_hz = bandwidth_hz
        self._rate_bps = rate_bps

    def at(self, snr_db: float) -> float:
        return self._rate_bps

    def over(self, snr_db: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(snr_db.shape, self._rate_bps)
