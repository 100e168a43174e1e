"""Rayleigh block fading with Doppler.

A sum of sinusoids with random phases and random arrival angles, one in each of N equal sectors (Zheng and
Xiao, "Improved models for the generation of multiple uncorrelated Rayleigh fading waveforms", IEEE
Communications Letters 6(6), 2002):

    h(t) = N^-1/2 · sum_n exp(i(2π f_d t cos α_n + φ_n)),   α_n = (2π n + θ_n) / N,

with θ_n, φ_n uniform on [-π, π).

Its ensemble autocorrelation is exactly J0(2π f_d τ); |h|² is exponential with mean 1 up to terms in 1/N.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..seeding import generator
from .path import CHUNK, Samples

__all__ = ["RayleighPath", "Sinusoids", "power_db"]

_PATHS = 32
_FINE = 16  # slots in a coarse step


class Sinusoids:
    """The complex gain h of one device, keyed by (seed, "fading", device); mean power 1.

    doppler_hz   maximal Doppler shift f_d; 0 is a channel that never changes
    slot_s       the gain is held over a slot, at its middle's value
    """

    def __init__(self, doppler_hz: float, slot_s: float, seed: int, device: int) -> None:
        theta, phi = generator(seed, "fading", device).uniform(-np.pi, np.pi, (2, _PATHS))
        angles = (2.0 * np.pi * np.arange(_PATHS) + theta) / _PATHS
        self._step = step = 2.0 * np.pi * doppler_hz * slot_s * np.cos(angles)
        self._phases = phi + 0.5 * step
        # exp(i w (16 a + b)) factors into coarse and fine steps, which all chunks share.
        self._coarse = _turn(np.multiply.outer(np.arange(0, CHUNK, _FINE), step)) / np.sqrt(_PATHS)
        # As wide as the coarse steps, or every product would widen it anew.
        self._fine = _turn(np.multiply.outer(step, np.arange(_FINE))).astype(np.complex128)

    def gains(self, chunk: int) -> NDArray[np.complex128]:
        """(CHUNK,) complex gains of the slots of `chunk`."""
        start = _turn(self._phases + self._step * (chunk * CHUNK))
        gains: NDArray[np.complex128] = ((start * self._coarse) @ self._fine).reshape(CHUNK)
        return gains


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
    """SNR(t) = mean SNR · |h(t)|²."""

    def __init__(self, mean_snr_db: float, doppler_hz: float, slot_s: float, seed: int, device: int) -> None:
        self._mean_snr_db = mean_snr_db
        self._fading = Sinusoids(doppler_hz, slot_s, seed, device)

    def draw(self, chunk: int) -> Samples:
        h = self._fading.gains(chunk)
        return Samples(self._mean_snr_db + power_db(h))
