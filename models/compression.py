"""What the codec does to tokens, in torch and differentiable, so that tails learn to work behind it.

Token selection by the CLS attention, a linear bottleneck of which any prefix of dims decodes, and nested
8-bit quantisation (arXiv 2508.09176) with a straight-through gradient. The codec itself is `codec/`; this is
its simulation for training only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ..codec.nested import NAMING_BITS
from ..codec.selection import kept_count

__all__ = ["Bottleneck", "compress", "quantise", "quantised_cells", "select"]


class Bottleneck(nn.Module):
    """z = (x - mean) down, x' = z[:d'] up[:d'] + mean, for one cut; arrays (d,), (d, d), (d, d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(dim))
        self.down = nn.Parameter(torch.eye(dim))
        self.up = nn.Parameter(torch.eye(dim))

    @classmethod
    @torch.no_grad()
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], cut: int, dim: int) -> Bottleneck:
        """That of `cut` among a model's codec arrays; identity maps where there is none."""
        bottleneck = cls(dim)
        for name, value in bottleneck.named_parameters():
            found = arrays.get(f"codec.{cut}.{name}")
            if found is not None:
                value.copy_(torch.from_numpy(np.asarray(found, np.float32)))
        return bottleneck

    def arrays(self, cut: int) -> dict[str, np.ndarray]:
        """As the codec reads them."""
        return {
            f"codec.{cut}.{name}": value.detach().cpu().numpy() for name, value in self.named_parameters()
        }

    @torch.no_grad()
    def start_from(self, tokens: Tensor) -> None:
        """Principal axes of tokens (N, d), each scaled to unit variance.

        One offset and scale serve all dims of a token, so dims of equal spread waste no quantisation levels.
        """
        x = tokens.double()
        mean = x.mean(dim=0)
        values, axes = torch.linalg.eigh(torch.cov((x - mean).T))
        values, axes = values.flip(0), axes.flip(1)
        # eigh leaves the axes' signs open: make the largest component positive, so that any LAPACK agrees.
        axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)))
        spread = (values.clamp(min=0) + 1e-4 * values.max()).sqrt()
        self.mean.copy_(mean.float())
        self.down.copy_((axes / spread).float())
        self.up.copy_((axes * spread).T.float())

    def project(self, x: Tensor, dims: int) -> Tensor:
        return (x - self.mean) @ self.down[:, :dims]

    def reconstruct(self, z: Tensor) -> Tensor:
        return z @ self.up[: z.shape[-1]] + self.mean


def select(tokens: Tensor, scores: Tensor, keep: float) -> Tensor:
    """CLS and the k = kept_count(n, keep) best-scored patch tokens in ascending position; (B, k+1, d)."""
    count = kept_count(scores.shape[1], keep)
    if count == scores.shape[1]:
        return tokens
    best = scores.topk(count, dim=1).indices.sort(dim=1).values + 1
    index = torch.cat([torch.zeros_like(best[:, :1]), best], dim=1)
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def quantise(z: Tensor, bits: int) -> Tensor:
    """Codes of `bits`, back at the cell's midpoint, for z (B, T, dims); the gradient passes straight.

    Each token has its own range, or all of a sample share one, by the rule of `codec.nested`.
    """
    return quantised_cells(z, bits)[0]


def quantised_cells(z: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """What `quantise` gives, and the width of the cells, (B, T, 1)."""
    with torch.no_grad():
        low, high = z.amin(dim=-1, keepdim=True), z.amax(dim=-1, keepdim=True)
        lowest, highest = low.amin(dim=1, keepdim=True), high.amax(dim=1, keepdim=True)
        own = (high - low).square().mean(dim=1, keepdim=True).sqrt()
        shared = highest - lowest <= own * 2.0 ** (NAMING_BITS / z.shape[-1])
        low = torch.where(shared, lowest, low)
        scale = (torch.where(shared, highest, high) - low).clamp(min=1e-8) / (1 << bits)
        code = ((z - low) / scale).floor().clamp(0, (1 << bits) - 1)
        error = (code + 0.5) * scale + low - z
    return z + error, scale


def compress(
    tokens: Tensor, scores: Tensor, bottleneck: Bottleneck, keep: float, dims: int, bits: int
) -> Tensor:
    """Tokens (B, n+1, d) as the server gets them: (B, k+1, d)."""
    kept = select(tokens, scores, keep)
    return bottleneck.reconstruct(quantise(bottleneck.project(kept, dims), bits))
