"""Rayleigh block fading with Doppler.

A sum of sinusoids with random phases and random arrival angles, one in each of N equal sectors (Zheng and
Xiao, "Improved models for the generation of multiple uncorrelated Rayleigh fading waveforms", IEEE
Communications Letters 6(6), 2002):

    h(t) = N^-1/2 · sum_n exp(i(2π f_d t cos α_n + φ_n)),   α_n = (2π n + θ_n) / N,

with θ_n, φ_n uniform on [-π, π).

Its ensemble autocorrelation is exactly J0(2π f_d τ); |h|² is exponential with mean 1 up to terms in 1/N.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..seeding import generator
from .path import CHUNK, Samples

__all__ = ["RayleighPath", "Sinusoids", "power_db"]

_PATHS = 32
_FINE = 16  # slots in a coarse step
_ALL = slice(None)


class Sinusoids:
    """The complex gains h of some devices, each keyed by (seed, "fading", device); mean power 1.

    doppler_hz   maximal Doppler shift f_d; 0 is a channel that never changes
    slot_s       the gain is held over a slot, at its middle's value
    """

    def __init__(self, doppler_hz: float, slot_s: float, seed: int, devices: Sequence[int]) -> None:
        draws = [generator(seed, "fading", device).uniform(-np.pi, np.pi, (2, _PATHS)) for device in devices]
        theta, phi = np.array(draws).transpose(1, 0, 2)
        angles = (2.0 * np.pi * np.arange(_PATHS) + theta) / _PATHS
        self._step = step = 2.0 * np.pi * doppler_hz * slot_s * np.cos(angles)
        self._phases = phi + 0.5 * step
        # exp(i w (16 a + b)) factors into coarse and fine steps, which all chunks share.
        coarse = np.arange(0, CHUNK, _FINE)[:, None] * step[:, None, :]
        self._coarse = _turn(coarse) / np.sqrt(_PATHS)
        # As wide as the coarse steps, or every product would widen it anew.
        self._fine = _turn(step[:, :, None] * np.arange(_FINE)).astype(np.complex128)

    def gains(self, chunk: int, rows: slice = _ALL) -> NDArray[np.complex128]:
        """(rows, CHUNK) complex gains of the slots of `chunk`, for the devices of these rows."""
        start = _turn(self._phases[rows] + self._step[rows] * (chunk * CHUNK))
        gains = (start[:, None, :] * self._coarse[rows]) @ self._fine[rows]
        return gains.reshape(len(start), CHUNK)


def _turn(radians: NDArray[np.float64]) -> NDArray[np.complex64]:
    return np.exp(1j * radians).astype(np.complex64)


def power_db(gains: NDArray[np.complex64] | NDArray[np.complex128]) -> NDArray[np.float64]:
    """|h|² in dB, at least -300, so that a null of the sum is no infinity."""
    power = np.square(gains.real, dtype=np.float64)
    power += np.square(gains.imag, dtype=np.float64)
    decibel: NDArray[np.float64] = np.log10(np.maximum(power, 1e-30, out=power), out=power)
    decibel *= 10.0
    return decibel


class RayleighPath:
    """SNR(t) = mean SNR · |h(t)|², for several devices, each with a mean of its own."""

    def __init__(
        self,
        mean_snr_db: Sequence[float],
        doppler_hz: float,
        slot_s: float,
        seed: int,
        devices: Sequence[int],
    ) -> None:
        self._mean_snr_db = np.array(mean_snr_db, float)[:, None]
        self._fading = Sinusoids(doppler_hz, slot_s, seed, devices)

    def draw(self, chunk: int, rows: slice) -> Samples:
        h = self._fading.gains(chunk, rows)
        return Samples(self._mean_snr_db[rows] + power_db(h))
