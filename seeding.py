"""Keyed randomness: every stochastic value is a function of (root seed, component, device, index).

Nothing depends on the order of the draws, so all policies of a run see the same arrivals, inputs, fading
and noise, and real processes see what virtual time saw.
"""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["Uniforms", "generator"]

_CHUNK = 1024


def _entropy(seed: int, component: str, *indices: int) -> np.random.SeedSequence:
    words = [seed, zlib.crc32(component.encode()), *indices]
    # The same sequence either way; from an array it is made in half the time.
    return np.random.SeedSequence(np.array(words, np.uint32) if max(words) < 1 << 32 else words)


def generator(seed: int, component: str, *indices: int) -> np.random.Generator:
    """A generator of its own for one (seed, component, indices); for draws made all at once.

    `seed` and `indices` are non-negative integers.
    """
    return np.random.Generator(np.random.Philox(_entropy(seed, component, *indices)))


class Uniforms:
    """Uniform draws on [0, 1), addressed by index: `Uniforms(seed, "arrivals", device)[i]`.

    Random access; a chunk at a time is drawn from a Philox counter, and the last one stays in memory.
    """

    def __init__(self, seed: int, component: str, *indices: int) -> None:
        self._sequence = _entropy(seed, component, *indices)
        self._chunk = -1
        self._values: list[float] = []

    def __getitem__(self, index: int) -> float:
        chunk, place = divmod(index, _CHUNK)
        if chunk != self._chunk:
            bits = np.random.Philox(self._sequence)
            bits.advance(chunk * _CHUNK // 4)  # one step yields four 64-bit words
            self._chunk, self._values = chunk, np.random.Generator(bits).random(_CHUNK).tolist()
        return self._values[place]
