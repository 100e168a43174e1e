"""Losses of the recursive early exit (arXiv 2412.19587) in the "mixed" regime (arXiv 2407.14320), in torch.

    L = sum over exits of  relu(m - (p_y - max_{c != y} p_c)) + w CE,   p = softmax(qbar_i),  m = .2

The paper weighs the cross-entropy by w = .1. We take w = .5: the margin term's gradient fades on samples that
are confidently wrong, and a thousand digits leave many of those to the first exits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .compression import Bottleneck, compress
from .recursion import running_logits
from .vit import SplitViT

__all__ = ["backbone_loss", "exit_loss", "mixed_loss"]

_State = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""Tokens, their scores by the last block, u and qbar."""


def exit_loss(
    qbar: Tensor, labels: Tensor, margin: float, ce_weight: float, smoothing: float = 0.0
) -> Tensor:
    """Mean loss of one exit over a batch; qbar (B, C), labels (B,), which the cross-entropy smooths."""
    p = qbar.softmax(dim=-1)
    own = p.gather(1, labels.unsqueeze(1)).squeeze(1)
    other = p.scatter(1, labels.unsqueeze(1), -1.0).amax(dim=1)
    hinge = functional.relu(margin - (own - other)).mean()
    return hinge + ce_weight * functional.cross_entropy(qbar, labels, label_smoothing=smoothing)


def backbone_loss(
    network: SplitViT,
    images: Tensor,
    labels: Tensor,
    smoothing: float,
    *,
    order: Tensor | None,
    probe: nn.Module | None,
    probe_weight: float,
) -> Tensor:
    """First part of the regime: cross-entropy of the last exit alone, on its own logits q.

    order  int64 (B, k), the patch tokens that the blocks see, 1 being the first; None: all of them
    probe  a classifier of the stem's mean token (B, d), whose cross-entropy is added with its weight; None: none is
    """
    x = network.embed(images)
    stem_loss = x.new_zeros(())
    if probe is not None:
        logits = probe(x[:, 1:].mean(dim=1))
        stem_loss = probe_weight * functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    if order is not None:
        patches = x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :1], patches], dim=1)
    x, _ = network.run(x, 0, network.card.depth)
    q, _ = network.exit(x, len(network.card.exits) - 1)
    return functional.cross_entropy(q, labels, label_smoothing=smoothing) + stem_loss


def mixed_loss(
    network: SplitViT,
    bottleneck: Bottleneck,
    images: Tensor,
    labels: Tensor,
    *,
    cut: int,
    keep: float,
    dims: int,
    bits: int,
    margin: float,
    ce_weight: float,
) -> Tensor:
    """Second part: every exit on clean tokens, those beyond the cut also on what the codec leaves of them.

    Exits on the device's side of the cut see clean tokens only; the compressed tail goes on from their state.
    """
    card = network.card
    total = images.new_zeros(())

    def go(x: Tensor, start: int, stop: int, u: Tensor | None, qbar: Tensor | None) -> _State:
        nonlocal total
        for after in card.stops(start, stop):
            x, scores = network.run(x, start, after)
            start = after
            if after in card.exits:
                q, u = network.exit(x, card.exits.index(after), u)
                qbar = running_logits(qbar, q)
                total = total + exit_loss(qbar, labels, margin, ce_weight)
        return x, scores, u, qbar

    x, scores, u, qbar = go(network.embed(images), 0, cut, None, None)
    go(x, cut, card.depth, u, qbar)
    go(compress(x, scores, bottleneck, keep, dims, bits), cut, card.depth, u, qbar)
    return total
