"""Keyed randomness: every stochastic value is a function of (root seed, component, device, index).

Nothing depends on the order of the draws, so all policies of a run see the same arrivals, inputs, fading
and noise, and real processes see what virtual time saw.
"""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["Normals", "Uniforms", "generator"]

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

    Random access; chunks are drawn from a Philox counter and cached as Python floats.
    """

    def __init__(self, seed: int, component: str, *indices: int) -> None:
        self._sequence = _entropy(seed, component, *indices)
        self._chunks: dict[int, list[float]] = {}

    def _bits(self, chunk: int, per_value: int) -> np.random.Generator:
        # One Philox step yields four 64-bit words.
        bits = np.random.Philox(self._sequence)
        bits.advance(chunk * _CHUNK * per_value // 4)
        return np.random.Generator(bits)

    def _draw(self, chunk: int) -> list[float]:
        drawn: list[float] = self._bits(chunk, 1).random(_CHUNK).tolist()
        return drawn

    def __getitem__(self, index: int) -> float:
        chunk, place = divmod(index, _CHUNK)
        values = self._chunks.get(chunk)
        if values is None:
            values = self._chunks[chunk] = self._draw(chunk)
        return values[place]


class Normals(Uniforms):
    """Standard normal draws addressed by index (Box-Muller on two uniforms each)."""

    def _draw(self, chunk: int) -> list[float]:
        first, second = self._bits(chunk, 2).random((_CHUNK, 2)).T
        drawn: list[float] = (np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second)).tolist()
        return drawn
