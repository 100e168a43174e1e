"""The optimiser of a training, and its rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["adamw", "rate_factor"]


def rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over a twentieth of the steps, then a cosine to a hundredth of the peak."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def adamw(network: nn.Module, others: Sequence[nn.Module], rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW that shrinks the network's matrices; vectors and `others` (bottlenecks) are left to the loss."""
    shrunk = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    rest += [p for other in others for p in other.parameters()]
    groups = [{"params": shrunk, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
