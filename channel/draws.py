"""Keyed draws in small blocks: little memory for a link of which there may be ten thousand."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from ..seeding import generator

__all__ = ["NormalDraws", "UniformDraws"]

_BLOCK_BITS = 6
_BLOCK = 1 << _BLOCK_BITS
_KEPT = 8


class UniformDraws:
    """Uniform draws on [0, 1), one for each non-negative index, keyed by (seed, component, indices, index).

    Like `seeding.Uniforms`, but drawn 64 at a time, and only the last eight blocks stay in memory.

    expected   how many indices will be asked for from 0 on, where that is known: up to there eight blocks are drawn in
               a row, which costs less than one now and then
    """

    def __init__(self, seed: int, component: str, *indices: int, expected: int = 0) -> None:
        self._seed, self._component, self._indices = seed, component, indices
        self._last = (expected - 1) >> _BLOCK_BITS
        self._blocks: dict[int, array[float]] = {}

    def _generator(self, block: int) -> np.random.Generator:
        return generator(self._seed, self._component, *self._indices, block)

    def _draw(self, block: int) -> NDArray[np.float64]:
        return self._generator(block).random(_BLOCK)

    def __getitem__(self, index: int) -> float:
        block = index >> _BLOCK_BITS
        values = self._blocks.get(block)
        if values is None:
            values = self._fetch(block)
        return values[index & (_BLOCK - 1)]

    def _fetch(self, block: int) -> array[float]:
        # The block that is asked for comes last: it is the newest of those that are kept.
        for drawn in range(min(block + _KEPT - 1, self._last), block, -1):
            if drawn not in self._blocks:
                self._keep(drawn)
        return self._keep(block)

    def _keep(self, block: int) -> array[float]:
        if len(self._blocks) >= _KEPT:
            del self._blocks[next(iter(self._blocks))]
        # As small as numpy's own, and quicker to read one by one.
        values = self._blocks[block] = array("d", self._draw(block).tobytes())
        return values


class NormalDraws(UniformDraws):
    """Standard normal draws addressed the same way."""

    def _draw(self, block: int) -> NDArray[np.float64]:
        return self._generator(block).standard_normal(_BLOCK)
