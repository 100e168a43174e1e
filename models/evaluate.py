"""Accuracy, MACs and time of a network at every one of its exits, nothing compressed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn

from . import macs
from .card import ModelCard
from .conv_card import ConvCard
from .data import Dataset
from .preprocess import normalise
from .recursion import margin, prediction, running_logits
from .vit import SplitViT

__all__ = ["accuracies", "evaluate", "exit_logits"]


@torch.inference_mode()
def exit_logits(network: nn.Module, card: ModelCard | ConvCard, data: Dataset, batch: int = 64) -> np.ndarray:
    """Running logits qbar at every exit, float32 (N, E, C), computed where the network is.

    network  images to the raw logits of every exit: a SplitViT, a SplitConv, or a tail with its head
    """
    device = next(network.parameters()).device
    parts = []
    for start in range(0, len(data), batch):
        images = torch.from_numpy(normalise(data.images[start : start + batch], card)).to(device)
        qbar, found = None, []
        for q in network(images):
            qbar = running_logits(qbar, q.cpu().numpy())
            found.append(qbar)
        parts.append(np.stack(found, axis=1))
    return np.concatenate(parts)


def accuracies(network: nn.Module, card: ModelCard | ConvCard, data: Dataset, batch: int = 64) -> list[float]:
    """Share of right answers at every exit, to four places; the network ends in training mode if it was in it."""
    training = network.training
    right = prediction(exit_logits(network.eval(), card, data, batch)) == data.labels[:, None]
    network.train(training)
    return [round(float(value), 4) for value in right.mean(axis=0)]


@torch.inference_mode()
def _seconds_to_exits(network: SplitViT, card: ModelCard, data: Dataset, samples: int) -> list[float]:
    """Median seconds from pixels to each exit at batch 1."""
    times = np.zeros((samples, len(card.exits)))
    for sample in range(-2, samples):  # two rounds to warm up
        began = time.perf_counter()
        image = data.images[sample % len(data)][None]
        x, u, at = network.embed(torch.from_numpy(normalise(image, card))), None, 0
        for index, after in enumerate(card.exits):
            x, _ = network.run(x, at, after)
            at = after
            _, u = network.exit(x, index, u)
            if sample >= 0:
                times[sample, index] = time.perf_counter() - began
    return [float(value) for value in np.median(times, axis=0)]


def evaluate(network: SplitViT, card: ModelCard, data: Dataset, *, timed: int = 20) -> dict[str, Any]:
    """A JSON-able report on `data`.

    samples, accuracy (of the last exit), and for each exit: after_block, accuracy, margin_mean,
    macs (closed form, exits before it included) and time_s (median at batch 1 over `timed` samples).
    """
    qbar = exit_logits(network, card, data)
    right = prediction(qbar) == data.labels[:, None]
    margins = margin(qbar)
    times = _seconds_to_exits(network, card, data, timed)
    exits = [
        {
            "exit": index,
            "after_block": after,
            "accuracy": float(right[:, index].mean()),
            "margin_mean": float(margins[:, index].mean()),
            "macs": macs.head_macs(card, after),
            "time_s": times[index],
        }
        for index, after in enumerate(card.exits)
    ]
    return {
        "model": card.name,
        "id": card.id,
        "samples": len(data),
        "accuracy": exits[-1]["accuracy"],
        "parameters": sum(p.numel() for p in network.parameters()),
        "exits": exits,
    }
