"""The optimiser of a training, and its rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["adamw", "rate_factor", "sgd"]


def rate_factor(step: int, steps: int, part: int = 20) -> float:
    """Linear warm-up over one of `part` parts of the steps, then a cosine to a hundredth of the peak."""
    warm = max(1, steps // part)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _groups(network: nn.Module, others: Sequence[nn.Module], decay: float) -> list[dict[str, Any]]:
    shrunk = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    rest += [p for other in others for p in other.parameters()]
    return [{"params": shrunk, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def adamw(network: nn.Module, others: Sequence[nn.Module], rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW that shrinks the network's matrices; vectors and `others` (bottlenecks) are left to the loss."""
    return torch.optim.AdamW(_groups(network, others, decay), lr=rate, betas=(0.9, 0.98))


def sgd(network: nn.Module, rate: float, decay: float) -> torch.optim.SGD:
    """Stochastic gradient descent with Nesterov's momentum, .9, that shrinks the network's matrices."""
    return torch.optim.SGD(_groups(network, (), decay), lr=rate, momentum=0.9, nesterov=True)
