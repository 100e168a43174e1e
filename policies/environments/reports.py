"""What the modems of many copies say of their links: `channel/report.py` on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...channel.config import SnrReportConfig
from ...channel.report import BESIDE_S
from .bank import LinkBank

__all__ = ["Modems"]

Array = NDArray[np.float64]

_FAR = 12.0
"""Standard deviations of the measurement's error beyond which no draw lies."""

_MOST_LEVELS = 1 << 16


class Modems:
    """Reports are (2, N): SNR in tens of dB, and log10 of the link's rate at it in Mbit/s, as FEATURES have them.

    A rounded SNR has few values, so that what is said at each is known beforehand.
    """

    def __init__(self, config: SnrReportConfig, bank: LinkBank) -> None:
        self._sigma_db, self._step_db = config.sigma_db, config.step_db
        self._delay_s = np.array(config.delay_s)
        self.every_s = config.every_s
        self._bank = bank
        self._said: Array | None = None
        if self._step_db:
            far = _FAR * self._sigma_db / self._step_db
            # Of each slot the level that is rounded down, counted from the lowest that can be reported.
            self._levels = bank.snr_db / self._step_db + 0.5
            lowest = np.floor(self._levels.min() - far)
            self._levels -= lowest
            count = int(self._levels.max() + far) + 1
            if count <= _MOST_LEVELS:
                self._said = self._rows(self._step_db * (lowest + np.arange(count)))

    def errors(self, normal: Array) -> Array:
        """Errors of the measurements from standard normal draws, as `read` wants them."""
        return normal * (self._sigma_db if self._said is None else self._sigma_db / self._step_db)

    def measured_s(self, t: Array, origin_s: Array) -> Array:
        """When that was measured which is reported at t, on a path that begins at `origin_s`."""
        return np.maximum(t - self._delay_s, origin_s)

    def newest(self, t: Array, origin_s: Array) -> tuple[NDArray[np.int64], Array, Array]:
        """Of the last measurement that is known at t: its number, when it was made, when it was known.

        Numbers are negative before the first.
        """
        assert self.every_s is not None
        index = np.floor((t - origin_s - self._delay_s) / self.every_s).astype(np.int64)
        measured_s = origin_s + (index * self.every_s + BESIDE_S)
        return index, measured_s, np.minimum(measured_s + self._delay_s, t)

    def read(self, measured_s: Array, error: Array) -> Array:
        """The reports of what was measured at `measured_s`."""
        slot = self._bank.slot(measured_s)
        if self._said is not None:
            levels = self._levels.take(slot, mode="clip")
            levels += error
            return self._said.take(levels.astype(np.int64), axis=1, mode="clip")
        snr_db = self._bank.snr_db.take(slot, mode="clip") + error
        if self._step_db:
            snr_db = self._step_db * np.floor(snr_db / self._step_db + 0.5)
        return self._rows(snr_db)

    def _rows(self, snr_db: Array) -> Array:
        rate_bps = np.maximum(self._bank.rate.over(snr_db), 1.0)
        return np.stack([0.1 * snr_db, np.log10(rate_bps) - 6.0])
