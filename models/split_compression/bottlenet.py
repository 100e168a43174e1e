"""BottleNet++: a learned convolutional encoder and decoder around the cut, trained with the task.

Source: arXiv 1910.14315. Encoder: strided convolution, batch norm, sigmoid; decoder: transposed convolution, batch
norm, and a ReLU where the original feature has one. Here the feature is a transformer's, so what is open is ours:
the patches are convolved as the image they form, CLS gets a linear pair of its own, there is no channel noise
(the link is digital), and no ReLU at the end, since tokens have both signs. Up to a rate of 1/4 the stride is 2,
where the grid is even, and the channels make up the rest; else the stride is 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import UsageError
from .base import Decoder, Encoder, Geometry, Sent, seeded

__all__ = ["BottleNetDecoder", "BottleNetEncoder", "bottleneck_shape"]


def bottleneck_shape(geometry: Geometry, rate: float) -> tuple[int, tuple[int, int], int]:
    """(stride, grid of the encoded patches, channels): channels such that grid and CLS meet the rate."""
    rows, columns = geometry.grid
    stride = 2 if rate <= 0.25 and rows % 2 == 0 and columns % 2 == 0 else 1
    grid = (rows // stride, columns // stride)
    # As in `kept_count`: c / d of the values are c channels.
    channels = math.floor(rate * geometry.values / (grid[0] * grid[1] + 1) + 1e-9)
    if channels < 1:
        raise UsageError(f"rate {rate:g} leaves BottleNet++ no channel at dim {geometry.dim}")
    return stride, grid, channels


class BottleNetEncoder(Encoder):
    def __init__(self, geometry: Geometry, rate: float, seed: int) -> None:
        super().__init__(geometry, rate, seed)
        stride, _, channels = bottleneck_shape(geometry, rate)
        with seeded(seed, 0):
            self.patches = nn.Conv2d(geometry.dim, channels, stride, stride)
            self.cls = nn.Linear(geometry.dim, channels)
        self.norm, self.cls_norm = nn.BatchNorm2d(channels), nn.BatchNorm1d(channels)

    def encode(self, x: Tensor, attention: Tensor, classes: Tensor, step: int) -> Sent:
        image = x[:, 1:].transpose(1, 2).unflatten(2, self.geometry.grid)
        patches = self.norm(self.patches(image)).sigmoid().flatten(2).transpose(1, 2)
        cls = self.cls_norm(self.cls(x[:, 0])).sigmoid().unsqueeze(1)
        return Sent(torch.cat([cls, patches], dim=1), classes)


class BottleNetDecoder(Decoder):
    def __init__(self, geometry: Geometry, rate: float, seed: int) -> None:
        super().__init__(geometry, rate, seed)
        stride, self.grid, channels = bottleneck_shape(geometry, rate)
        self.channels = channels
        with seeded(seed, 1):
            self.patches = nn.ConvTranspose2d(channels, geometry.dim, stride, stride)
            self.cls = nn.Linear(channels, geometry.dim)
        self.norm, self.cls_norm = nn.BatchNorm2d(geometry.dim), nn.BatchNorm1d(geometry.dim)

    def wire_shape(self, outputs: int) -> tuple[int, int, int]:
        return outputs, self.grid[0] * self.grid[1] + 1, self.channels

    def decode(self, values: Tensor, indices: bytes, outputs: int) -> Tensor:
        image = values[:, 1:].transpose(1, 2).unflatten(2, self.grid)
        patches = self.norm(self.patches(image)).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_norm(self.cls(values[:, 0])).unsqueeze(1), patches], dim=1)
