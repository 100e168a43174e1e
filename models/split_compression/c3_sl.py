"""C3-SL: several samples bound to keys by circular convolution and added up into one.

Source: arXiv 2207.12397. With fixed keys K_i ~ N(0, 1/D), scaled to unit norm, D = n d, and groups of R samples:

    S = sum over i of K_i (*) z_i          z'_i = K_i (corr) S          (by FFT)

Correlating with a key undoes its convolution up to noise from the R - 1 others, which are nearly orthogonal. The
gradient of S has its shape. Both sides make the keys from the seed. R = floor(1 / rate) at most, so that the rate is
met. A batch that R does not divide is cut into equal groups, as few as before: each sample then has less noise for the
same bytes. The last group may be smaller.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...errors import UsageError
from ...seeding import generator
from .base import Decoder, Encoder, Geometry, Sent

__all__ = ["C3Decoder", "C3Encoder", "keys"]

_MOST = 256  # keys are whole activations: their memory is bounded


def _most_in_group(rate: float) -> int:
    """R, most samples in one sum. The margin is for rates such as 1/3, whose inverse falls a hair short."""
    size = math.floor(1.0 / rate + 1e-9)
    if size > _MOST:
        raise UsageError(f"rate {rate:g} is below 1/{_MOST}, C3-SL's lowest")
    return max(1, size)


def keys(geometry: Geometry, rate: float, seed: int) -> Tensor:
    """float32 (R, D) keys of unit norm. One sample a group needs no key: its own is the unit impulse."""
    count = _most_in_group(rate)
    if count == 1:
        drawn = np.zeros((1, geometry.values))
        drawn[0, 0] = 1.0
    else:
        drawn = generator(seed, "c3-sl-keys").standard_normal((count, geometry.values))
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return torch.from_numpy(drawn.astype(np.float32))


def _groups(samples: int, most: int) -> tuple[int, int]:
    """Sums of a batch, and samples in each."""
    sums = -(-samples // most)
    return sums, -(-samples // sums)


def _bind(z: Tensor, spectra: Tensor) -> Tensor:
    """z (G, R, D) to sums (G, D); spectra complex (R, D//2+1), the keys' FFT."""
    return torch.fft.irfft((torch.fft.rfft(z) * spectra).sum(dim=1), n=z.shape[-1])


def _unbind(sums: Tensor, spectra: Tensor) -> Tensor:
    """Sums (G, D) to (G, R, D)."""
    found = torch.fft.rfft(sums).unsqueeze(1) * spectra.conj()
    return torch.fft.irfft(found, n=sums.shape[-1])


class C3Encoder(Encoder):
    spectra: Tensor

    def __init__(self, geometry: Geometry, rate: float, seed: int) -> None:
        super().__init__(geometry, rate, seed)
        self.register_buffer("spectra", torch.fft.rfft(keys(geometry, rate, seed)), persistent=False)

    def encode(self, x: Tensor, attention: Tensor, classes: Tensor, step: int) -> Sent:
        count, size = _groups(len(x), len(self.spectra))
        flat = x.flatten(1)
        # Samples that are missing in the last group are zeros, which add nothing.
        flat = functional.pad(flat, (0, 0, 0, count * size - len(x)))
        sums = _bind(flat.reshape(count, size, flat.shape[1]), self.spectra[:size])
        return Sent(sums.reshape(-1, *x.shape[1:]), classes)


class C3Decoder(Decoder):
    spectra: Tensor

    def __init__(self, geometry: Geometry, rate: float, seed: int) -> None:
        super().__init__(geometry, rate, seed)
        self.register_buffer("spectra", torch.fft.rfft(keys(geometry, rate, seed)), persistent=False)

    def wire_shape(self, outputs: int) -> tuple[int, int, int]:
        return _groups(outputs, len(self.spectra))[0], self.geometry.tokens, self.geometry.dim

    def decode(self, values: Tensor, indices: bytes, outputs: int) -> Tensor:
        _, size = _groups(outputs, len(self.spectra))
        found = _unbind(values.flatten(1), self.spectra[:size])
        return found.reshape(-1, *values.shape[1:])[:outputs]
