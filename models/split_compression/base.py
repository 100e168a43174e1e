"""What a compression method of split learning is: an encoder on the device, a decoder on the server.

    device                                            server
    x (B, n, d) -- encode --> values ── float16 ──► values -- decode --> (outputs, n', d) -- tail --> logits
    dx        <-- autograd -- dvalues ◄── float16 ── dvalues <-- autograd -------------------- loss

Both are differentiable, and the gradient that comes back is that of the values sent: it has their shape, and
autograd spreads it to the samples on one side and takes it from the tail's input on the other.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ...seeding import generator

__all__ = ["Decoder", "Encoder", "Geometry", "Sent", "seeded"]


class Geometry(NamedTuple):
    """Shape of the activations at the cut: tokens n (CLS included), dim d, and the patches' rows and columns."""

    tokens: int
    dim: int
    grid: tuple[int, int]
    classes: int

    @property
    def values(self) -> int:
        """n d, values of one sample."""
        return self.tokens * self.dim


class Sent(NamedTuple):
    """What leaves the device.

    values   float (samples, tokens, dims), in the device's graph
    targets  int64 (outputs,) classes, or float (outputs, C) soft labels where samples were merged
    indices  which values these are, where the method sends some of them only
    """

    values: Tensor
    targets: Tensor
    indices: bytes = b""

    @property
    def outputs(self) -> int:
        """Rows that the tail will run."""
        return len(self.targets)


class _Half(nn.Module):
    def __init__(self, geometry: Geometry, rate: float, seed: int) -> None:
        super().__init__()
        if not (math.isfinite(rate) and 0.0 < rate <= 1.0):
            raise UsageError(f"rate must be in (0, 1], not {rate!r}")
        self.geometry, self.rate, self.seed = geometry, rate, seed


class Encoder(_Half, ABC):
    """The device's half. `rate` is the wanted fraction of the activation's values, in (0, 1]."""

    @abstractmethod
    def encode(self, x: Tensor, attention: Tensor, classes: Tensor, step: int) -> Sent:
        """One batch: x (B, n, d), attention (B, n-1) of the last block, classes int64 (B,), step from 0."""


class Decoder(_Half, ABC):
    """The server's half. `indexed`: whether values come with indices."""

    indexed = False

    @abstractmethod
    def wire_shape(self, outputs: int) -> tuple[int, int, int]:
        """(samples, tokens, dims) of the values from which `outputs` rows are decoded."""

    @abstractmethod
    def decode(self, values: Tensor, indices: bytes, outputs: int) -> Tensor:
        """Values (samples, tokens, dims) to the tail's input (outputs, n', d), n' at most n.

        Raises PayloadError (field `indices`) for indices that do not fit.
        """


@contextmanager
def seeded(seed: int, side: int) -> Iterator[None]:
    """New layers get their weights from (seed, side); torch's own stream stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "split-learning-layers", side).integers(2**63)))
        yield
