"""Top-K and random Top-K: of each sample, only k of its values are sent, and their gradients return.

Source: arXiv 2305.18469. Top-K sends the k values of largest magnitude and where they lie; the server puts them
among zeros. Backwards the gradient of these k alone returns, whose places the device knows. Random Top-K gives the
others a chance: each of the k is, with probability `_ASIDE`, drawn from the values that are not among the top k
(.1: the middle of what the paper recommends). How the places are coded is ours (`gaps`): cheaper than a list or
a bit mask.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...codec.selection import kept_count
from ...seeding import generator
from .base import Decoder, Encoder, Geometry, Sent
from .gaps import pack_positions, unpack_positions

__all__ = ["RandomTopKEncoder", "TopKDecoder", "TopKEncoder", "kept_values"]

_ASIDE = 0.1


def kept_values(geometry: Geometry, rate: float) -> int:
    """k = max(1, floor(rate n d))."""
    return kept_count(geometry.values, rate)


class TopKEncoder(Encoder):
    def encode(self, x: Tensor, attention: Tensor, classes: Tensor, step: int) -> Sent:
        flat = x.flatten(1)
        positions = self.positions(flat.detach().abs(), step)
        values = flat.gather(1, positions).unsqueeze(1)
        return Sent(values, classes, pack_positions(positions.cpu().numpy()))

    def positions(self, magnitude: Tensor, step: int) -> Tensor:
        """int64 (B, k) rising positions of the values to send; magnitude (B, n d)."""
        k = kept_values(self.geometry, self.rate)
        return magnitude.topk(k, dim=1).indices.sort(dim=1).values


class RandomTopKEncoder(TopKEncoder):
    def positions(self, magnitude: Tensor, step: int) -> Tensor:
        count, length = magnitude.shape
        k = kept_values(self.geometry, self.rate)
        rng = generator(self.seed, "random-top-k", step)
        aside = np.minimum(rng.binomial(k, _ASIDE, count), length - k)
        order = magnitude.argsort(dim=1, descending=True, stable=True).cpu().numpy()
        # Keys in [0, 1): the k - a smallest of the top and the a smallest of the rest are taken.
        keys = rng.random((count, length), dtype=np.float32)
        top = np.take_along_axis(order[:, :k], np.argsort(keys[:, :k], axis=1), axis=1)
        taken = np.empty((count, k), np.int64)
        for row, others in enumerate(aside.tolist()):
            taken[row, : k - others] = top[row, : k - others]
            if others:
                chosen = np.argpartition(keys[row, k:], others - 1)[:others]
                taken[row, k - others :] = order[row, k:][chosen]
        return torch.from_numpy(np.sort(taken, axis=1)).to(magnitude.device)


class TopKDecoder(Decoder):
    indexed = True

    def wire_shape(self, outputs: int) -> tuple[int, int, int]:
        return outputs, 1, kept_values(self.geometry, self.rate)

    def decode(self, values: Tensor, indices: bytes, outputs: int) -> Tensor:
        geometry, kept = self.geometry, values.shape[2]
        positions = torch.from_numpy(unpack_positions(indices, outputs, kept, geometry.values))
        zeros = values.new_zeros(outputs, geometry.values)
        flat = zeros.scatter(1, positions.to(values.device), values.squeeze(1))
        return flat.reshape(outputs, geometry.tokens, geometry.dim)
