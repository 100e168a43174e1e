"""Rician block fading: Rayleigh scatter around a line of sight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .path import Samples
from .rayleigh import Sinusoids, power_db

__all__ = ["RicianPath"]


class RicianPath:
    """SNR(t) = mean SNR · |sqrt(K/(K+1)) + sqrt(1/(K+1)) h(t)|², h Rayleigh with mean power 1;
    for several devices, each with a mean SNR of its own.

    k_factor_db   K, power of the line of sight over that of the scatter. Its Doppler shift is 0: the
                  scatter moves around a device whose line of sight does not.
    """

    def __init__(
        self,
        mean_snr_db: Sequence[float],
        k_factor_db: float,
        doppler_hz: float,
        slot_s: float,
        seed: int,
        devices: Sequence[int],
    ) -> None:
        k = 10.0 ** (0.1 * k_factor_db)
        self._line_of_sight = float(np.sqrt(k / (k + 1.0)))
        self._scatter = float(np.sqrt(1.0 / (k + 1.0)))
        self._mean_snr_db = np.array(mean_snr_db, float)[:, None]
        self._fading = Sinusoids(doppler_hz, slot_s, seed, devices)

    def draw(self, chunk: int, rows: slice) -> Samples:
        h = self._line_of_sight + self._scatter * self._fading.gains(chunk, rows)
        return Samples(self._mean_snr_db[rows] + power_db(h))
