"""Keyed draws in small blocks: little memory for a link of which there may be ten thousand."""

from __future__ import annotations

import numpy as np

from ..seeding import generator

__all__ = ["NormalDraws", "UniformDraws"]

_BLOCK_BITS = 6
_BLOCK = 1 << _BLOCK_BITS
_KEPT = 4


class UniformDraws:
    """Uniform draws on [0, 1), one for each non-negative index, keyed by (seed, component, indices, index).

    Like `seeding.Uniforms`, but drawn 64 at a time, and only the last four blocks stay in memory.
    """

    def __init__(self, seed: int, component: str, *indices: int) -> None:
        self._seed, self._component, self._indices = seed, component, indices
        self._blocks: dict[int, list[float]] = {}

    def _generator(self, block: int) -> np.random.Generator:
        return generator(self._seed, self._component, *self._indices, block)

    def _draw(self, block: int) -> list[float]:
        drawn: list[float] = self._generator(block).random(_BLOCK).tolist()
        return drawn

    def __getitem__(self, index: int) -> float:
        block = index >> _BLOCK_BITS
        values = self._blocks.get(block)
        if values is None:
            if len(self._blocks) >= _KEPT:
                del self._blocks[next(iter(self._blocks))]
            values = self._blocks[block] = self._draw(block)
        return values[index & (_BLOCK - 1)]


class NormalDraws(UniformDraws):
    """Standard normal draws addressed the same way."""

    def _draw(self, block: int) -> list[float]:
        drawn: list[float] = self._generator(block).standard_normal(_BLOCK).tolist()
        return drawn
