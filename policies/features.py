"""An Observation as numbers for a network: finite, bounded, of order one.

Environments and trained policies use it alike, on a training machine and on a board; numpy alone.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .observation import Observation

__all__ = ["FEATURES", "PRIOR_SIGMA", "Feature", "Scales", "feature_rows", "features"]


class Feature(NamedTuple):
    """One number of the vector: its name, what it is with its unit, and the range that it is clipped to."""

    name: str
    meaning: str
    low: float
    high: float


FEATURES = (
    Feature("known", "1 once a report of the link has come, else 0 and the next four are 0", 0.0, 1.0),
    Feature("snr", "estimated SNR, in tens of dB", -3.0, 6.0),
    Feature("rate", "log10 of the estimated rate in Mbit/s", -6.0, 4.0),
    Feature("rate_sigma", "standard deviation of the rate's estimate, in tens of dB", 0.0, 4.0),
    Feature("round_trip", "estimated round trip of an empty message over the deadline", 0.0, 4.0),
    Feature("device_queue", "log2 of 1 + requests that wait on the device", 0.0, 10.0),
    Feature("server_load", "log2 of 1 + requests on the server at the last reply", 0.0, 10.0),
    Feature("energy", "energy left over the battery's; 1 on mains", 0.0, 1.0),
    Feature("time_left", "time to the deadline over the deadline", -4.0, 1.0),
    Feature("link_up", "0 while the link is known to be down, else 1", 0.0, 1.0),
)

PRIOR_SIGMA = 1.0
"""What `rate_sigma` is before the first report, in tens of dB: nothing is known."""


class Scales(NamedTuple):
    """What times and energies are relative to: the deadline, and the battery (infinite on mains)."""

    deadline_s: float
    battery_j: float


def features(observation: Observation, scales: Scales) -> NDArray[np.float32]:
    """(len(FEATURES),) float32, in the order of FEATURES."""
    snr_db, rate_bps, sigma_db, round_trip_s, queue, load, energy_j, left_s, up = observation
    deadline_s, battery_j = scales
    known, snr, rate, sigma, round_trip = 0.0, 0.0, 0.0, PRIOR_SIGMA, 0.0
    if rate_bps == rate_bps:
        known = 1.0
        # Without a modem there is a rate, and no SNR.
        snr = _within(0.1 * snr_db, -3.0, 6.0) if snr_db == snr_db else 0.0
        rate = _within(math.log10(rate_bps) - 6.0, -6.0, 4.0) if rate_bps > 0.0 else -6.0
        sigma = _within(0.1 * sigma_db, 0.0, 4.0)
    if round_trip_s == round_trip_s:
        round_trip = _within(round_trip_s / deadline_s, 0.0, 4.0)
    return np.array(
        (
            known,
            snr,
            rate,
            sigma,
            round_trip,
            _within(math.log2(1.0 + queue), 0.0, 10.0) if queue else 0.0,
            _within(math.log2(1.0 + load), 0.0, 10.0) if load > 0.0 else 0.0,
            _within(energy_j / battery_j, 0.0, 1.0) if battery_j < math.inf else 1.0,
            _within(left_s / deadline_s, -4.0, 1.0),
            1.0 if up else 0.0,
        ),
        np.float32,
    )


def _within(value: float, low: float, high: float) -> float:
    if value < low:
        return low
    return high if value > high else value


def feature_rows(columns: NDArray[np.float64]) -> NDArray[np.float32]:
    """Observations of N devices, (N, len(FEATURES)), from features not yet clipped, (len(FEATURES), N).

    What is not known is to be filled in as `features` does.
    """
    low, high = _bounds(columns.shape[1])
    rows = columns.astype(np.float32)
    np.maximum(rows, low, out=rows)
    np.minimum(rows, high, out=rows)
    return rows.T.copy()


@lru_cache(maxsize=4)
def _bounds(devices: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both ranges' ends, (len(FEATURES), devices): arrays of one shape are compared much faster than others."""
    low, high = (
        np.array([bounds] * devices, np.float32).T.copy()
        for bounds in zip(*((f.low, f.high) for f in FEATURES), strict=True)
    )
    return low, high
