"""What gates keep and what is still answered right, over a data set at one alpha, in torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .data import Dataset
from .gated import begin_gated, run_gated
from .preprocess import normalise
from .recursion import prediction, running_logits
from .vit import SplitViT

__all__ = ["gate_report", "kept_and_right"]

_ALPHAS = (0.75, 0.5, 0.25, 0.125)


@torch.inference_mode()
def kept_and_right(
    network: SplitViT, data: Dataset, alpha: float, batch: int = 128
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Kept fraction behind every gate, (N, depth - 1), and whether each exit on the device is right, (N, E)."""
    card = network.card
    device = next(network.parameters()).device
    kept, right = [], []
    for start in range(0, len(data), batch):
        part = slice(start, start + batch)
        images = torch.from_numpy(normalise(data.images[part], card)).to(device)
        at = begin_gated(network, images, torch.full((len(images),), alpha, device=device))
        u, qbar, before, found = None, None, 0, []
        for index, after in enumerate(card.exits):
            at = run_gated(network, at, before, after)
            before = after
            q, u = network.exit(at.x, index, u)
            qbar = running_logits(qbar, q.cpu().numpy())
            found.append(prediction(qbar) == data.labels[part])
        kept.append(torch.stack(at.fractions, dim=1).cpu().numpy())
        right.append(np.stack(found, axis=1))
    return np.concatenate(kept), np.concatenate(right)


def gate_report(network: SplitViT, data: Dataset) -> list[dict[str, float]]:
    """For some alphas the mean kept fraction behind the first and the last gate, and the last exit's accuracy."""
    rows = []
    for alpha in _ALPHAS:
        kept, right = kept_and_right(network, data, alpha)
        rows.append(
            {
                "alpha": alpha,
                "kept_first": round(float(kept[:, 0].mean()), 4),
                "kept_last": round(float(kept[:, -1].mean()), 4),
                "accuracy": round(float(right[:, -1].mean()), 4),
            }
        )
    return rows
