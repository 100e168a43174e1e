"""The loss that trains gates, in torch: exits on what the gates leave, and a price on missing the budget.

    L = L_exits + w_out E relu(|f_last - alpha| - .02) + w_in mean over gates of E relu(|f - alpha| - .02)

f is the kept fraction behind a gate (arXiv 2405.02330, with the mends told in `models/gates.py`), alpha is
drawn for each sample. L_exits is the sum over exits of `losses.exit_loss`: on the device up to the end, and
behind the codec from a cut on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .compression import Bottleneck, quantise
from .gated import Gated, begin_gated, run_gated
from .losses import exit_loss
from .recursion import running_logits
from .vit import SplitViT

__all__ = ["budget_loss", "gated_loss"]

_TOLERANCE = 0.02


def budget_loss(fractions: Sequence[Tensor], alpha: Tensor, outer: float, inner: float) -> Tensor:
    """The price of the kept fractions, each (B,), gate after gate, at alpha (B,)."""
    missed = torch.stack([((f - alpha).abs() - _TOLERANCE).relu().mean() for f in fractions])
    return outer * missed[-1] + inner * missed.mean()


def gated_loss(
    network: SplitViT,
    bottleneck: Bottleneck,
    images: Tensor,
    labels: Tensor,
    *,
    alpha: Tensor,
    cut: int,
    dims: int,
    bits: int,
    margin: float,
    ce_weight: float,
    outer: float,
    inner: float,
) -> Tensor:
    """Loss of one batch: all exits on the device at alpha (B,), and those of the tail behind a cut in 1..depth-1.

    Budget token and the last gate's m are not sent; dims and bits are the codec's.
    """
    card = network.card
    total = images.new_zeros(())
    u: Tensor | None = None
    qbar: Tensor | None = None

    def read(x: Tensor, index: int) -> None:
        nonlocal total, u, qbar
        q, u = network.exit(x, index, u)
        qbar = running_logits(qbar, q)
        total = total + exit_loss(qbar, labels, margin, ce_weight)

    def on_device(at: Gated, start: int, stop: int) -> Gated:
        for index in card.exits_within(start, stop):
            at = run_gated(network, at, start, card.exits[index])
            start = card.exits[index]
            read(at.x, index)
        return run_gated(network, at, start, stop)

    at_cut = on_device(begin_gated(network, images, alpha), 0, cut)
    state = u, qbar
    at_end = on_device(at_cut, cut, card.depth)
    u, qbar = state
    sent = torch.cat([at_cut.x[:, :1], at_cut.x[:, 1:-1] / at_cut.m.unsqueeze(-1)], dim=1)
    x = bottleneck.reconstruct(quantise(bottleneck.project(sent, dims), bits))
    keys = torch.cat([torch.ones_like(at_cut.keys[:, :1]), at_cut.keys], dim=1)
    start = cut
    for index in card.exits_within(cut, card.depth):
        x, _ = network.run(x, start, card.exits[index], keys=keys)
        start = card.exits[index]
        read(x, index)
    return total + budget_loss(at_end.fractions, alpha, outer, inner)
