"""The optimiser of a training: AdamW, and Muon for the blocks' matrices where asked for; rates over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["Optimizers", "rate_factor"]


def rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over a twentieth of the steps, then a cosine to a hundredth of the peak."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Optimizers:
    """Steps of one part of a training.

    AdamW shrinks the network's matrices; vectors and `others` (bottlenecks) are left to the loss. With a
    `matrix_rate`, the blocks' matrices are trained by Muon (momentum, orthogonalised; kellerjordan.github.io
    /posts/muon) instead: in a short training it reached the same loss in three quarters of the images.
    """

    def __init__(
        self, network: nn.Module, others: Sequence[nn.Module], rate: float, decay: float, matrix_rate: float
    ) -> None:
        named = list(network.named_parameters())
        matrices = [p for name, p in named if matrix_rate and p.ndim == 2 and name.startswith("blocks.")]
        taken = {id(p) for p in matrices}
        shrunk = [p for _, p in named if p.ndim > 1 and id(p) not in taken]
        rest = [p for _, p in named if p.ndim <= 1]
        rest += [p for other in others for p in other.parameters()]
        groups = [{"params": shrunk, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
        self._all: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]
        if matrices:
            self._all.append(torch.optim.Muon(matrices, lr=matrix_rate, weight_decay=decay / 5))
        self._peaks = [[group["lr"] for group in one.param_groups] for one in self._all]

    def step(self, factor: float) -> None:
        """One step at `factor` of the peak rates; the gradients are forgotten afterwards."""
        for one, peaks in zip(self._all, self._peaks, strict=True):
            for group, peak in zip(one.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            one.step()
            one.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        return [one.state_dict() for one in self._all]

    def load(self, states: list[dict[str, Any]]) -> None:
        for one, state in zip(self._all, states, strict=True):
            one.load_state_dict(state)
