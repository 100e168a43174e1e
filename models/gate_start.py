"""Gates in closed form, in torch: where their training starts from, and how thresholds are set when it ends.

Fresh gates are open, and far from where they must come to: a count of tokens has next to no gradient there.
So each gate is fitted first (ours; the papers train from open gates), and after training, which holds the
kept fraction of a sample near alpha but not their mean, thresholds are fitted again.

    w, b   ridge regression of a patch's rank by attention of CLS, mean over the blocks that are still to come
    v, c   ridge regression of the quantile of these scores above which a fraction alpha of the patches lies
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gated import begin_gated, through_block, through_gate
from .vit import SplitViT

__all__ = ["fit_thresholds", "start_gates"]

_RIDGE = 1e-6
_SPREAD = 1.5
"""Standard deviation of the fitted scores' logits: far from saturation, wide enough to choose by."""
_LEAST, _MOST, _STEP = 0.05, 0.95, 0.02
_LEAD = 2.0
"""How much lower the logits of later thresholds are: what one gate has let through, the others seldom drop."""


@torch.no_grad()
def start_gates(network: SplitViT, images: Tensor) -> None:
    """Fit the network's gates on training images (S, C, H, W), normalised; some hundreds are enough."""
    gates = network.gates
    x = network.embed(images)
    behind, attention = [], []
    for index in range(network.card.depth):
        x, scores = network.run(x, index, index + 1)
        behind.append(x)
        attention.append(scores)
    for row, tokens in enumerate(behind[:-1]):
        patches = tokens[:, 1:].double().flatten(0, 1)
        importance = torch.stack(attention[row + 1 :]).mean(dim=0)
        rank = importance.argsort(dim=1).argsort(dim=1).double().flatten()
        w, _ = _ridge(patches, rank, torch.ones_like(rank))
        w *= _SPREAD / (patches @ w).std()
        gates.w[row] = w
        gates.b[row] = -(patches @ w).mean()
    fit_thresholds(network, images)


@torch.no_grad()
def fit_thresholds(network: SplitViT, images: Tensor) -> None:
    """Fit v and c of one gate after the other, so that the mean kept fraction behind the first is alpha, and stays."""
    gates = network.gates
    samples = torch.arange(len(images), device=images.device)
    # Neighbours in the batch must not have neighbouring alphas: image folders are sorted by class.
    alpha = torch.linspace(_LEAST, _MOST, len(images), device=images.device)[samples * 7919 % len(images)]
    at = begin_gated(network, images, alpha)
    for gate in range(1, network.card.depth):
        at = through_block(network, at, gate - 1)
        scores = gates.logits(at.x, gate)[0].double().flatten()
        wanted, below, above = (
            torch.quantile(scores, (1 - alpha.double() + step).clamp(0, 1)) for step in (0.0, -_STEP, _STEP)
        )
        if gate > 1:
            wanted = wanted - _LEAD
        # What counts is the error of the fraction: the density of the scores times the error of the quantile.
        gates.v[gate - 1], gates.c[gate - 1] = _ridge(at.x[:, -1].double(), wanted, (above - below).pow(-2))
        at = through_gate(network, at, gate)


def _ridge(features: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (d,) and bias () of the linear map nearest to `target` (N,) on features (N, d); row i counts[i] times."""
    share = (counts / counts.sum())[:, None]
    mean, middle = (share * features).sum(dim=0), (share[:, 0] * target).sum()
    centred = features - mean
    gram = centred.T @ (share * centred)
    gram += _RIDGE * gram.trace() / len(gram) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram, centred.T @ (share[:, 0] * (target - middle)))
    return weights, middle - mean @ weights
