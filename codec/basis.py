"""Bottleneck dims: a nested linear map before quantisation, any prefix of whose dims decodes.

    x (T, d) -- (x - mean) @ down[:, :dims] --> z (T, dims) -- z @ up[:dims] + mean --> x' (T, d)

The "embedding dimension" axis of arXiv 2505.17604 for digital links. The matrices come with the model
(`codec.{cut}.mean|down|up`); a model without them has the identity, and its first dims are sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import DataError
from .errors import check_within
from .nested import LARGEST

__all__ = ["Basis"]

_LARGEST_VALUE = 257.0 * LARGEST
"""Above every value that offset + (code + .5) * scale can have."""


class Basis:
    """Nested linear map of one cut: mean (d,), down (d, d), a column a dim, up (d, d), a row a dim."""

    def __init__(self, mean: np.ndarray, down: np.ndarray, up: np.ndarray) -> None:
        self.mean = np.ascontiguousarray(mean, dtype=np.float32)
        self.down = np.ascontiguousarray(down, dtype=np.float32)
        self.up = np.ascontiguousarray(up, dtype=np.float32)
        self.is_identity = False
        if self.mean.ndim != 1 or self.mean.size == 0:
            raise DataError(f"codec mean must have shape (d,), not {self.mean.shape}")
        for name, matrix in (("mean", self.mean), ("down", self.down), ("up", self.up)):
            if name != "mean" and matrix.shape != (self.dim, self.dim):
                raise DataError(f"codec {name} must have shape {(self.dim, self.dim)}, not {matrix.shape}")
            if not np.isfinite(matrix).all():
                raise DataError(f"codec {name} must be finite")
        largest = _LARGEST_VALUE * np.abs(self.up).sum(axis=0, dtype=np.float64) + np.abs(self.mean)
        self.bounded = bool(largest.max() < 0.5 * np.finfo(np.float32).max)
        """Whether tokens are finite whatever finite offset and scale say."""

    @property
    def dim(self) -> int:
        """The network's dim, d."""
        return self.mean.size

    @classmethod
    def identity(cls, dim: int) -> Basis:
        """The map of a model that has none: the first dims themselves, zero for the others."""
        eye = np.eye(dim, dtype=np.float32)
        basis = cls(np.zeros(dim, np.float32), eye, eye)
        basis.is_identity = True
        return basis

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], cut: int) -> Basis | None:
        """The map of `cut` among the model's arrays, or None; DataError if only part of it is there."""
        names = [f"codec.{cut}.{part}" for part in ("mean", "down", "up")]
        there = [name for name in names if name in arrays]
        if not there:
            return None
        if missing := sorted(set(names) - set(there)):
            raise DataError(f"the model's codec arrays lack {', '.join(missing)}")
        return cls(*(arrays[name] for name in names))

    def project(self, x: np.ndarray, dims: int) -> np.ndarray:
        """Tokens x (T, d) to their first `dims` bottleneck dims, float32 (T, dims)."""
        self._check(dims)
        x = np.asarray(x, dtype=np.float32)
        if self.is_identity:
            return np.ascontiguousarray(x[:, :dims])
        return (x - self.mean) @ self.down[:, :dims]

    def reconstruct(self, z: np.ndarray) -> np.ndarray:
        """Bottleneck dims z (T, dims) back to tokens, float32 (T, d)."""
        dims = z.shape[1]
        self._check(dims)
        if self.is_identity:
            if dims == self.dim:
                return z
            x = np.zeros((z.shape[0], self.dim), np.float32)
            x[:, :dims] = z
            return x
        return z @ self.up[:dims] + self.mean

    def _check(self, dims: int) -> None:
        check_within("tokens.dims", dims, 1, self.dim)
