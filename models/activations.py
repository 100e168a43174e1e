"""Activations at a cut, computed once, and the network's tail on what becomes of them: for training codecs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from .card import ModelCard
from .preprocess import normalise
from .recursion import running_logits
from .training_data import TrainingData
from .vit import SplitViT

__all__ = ["Activations", "activations", "cached_activations", "check_cuts", "tail_logits"]


class Activations(NamedTuple):
    """What is known at a cut of N samples.

    tokens float16 (N, n+1, d), scores (N, n), labels (N,); u (N, du) and qbar (N, C), the state of the exits at
    or before the cut, None before the first
    """

    tokens: Tensor
    scores: Tensor
    labels: Tensor
    u: Tensor | None
    qbar: Tensor | None

    def at(self, rows: Tensor) -> Activations:
        return Activations(*(None if part is None else part[rows] for part in self))  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Activations:
        return Activations(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


def check_cuts(card: ModelCard, cuts: Iterable[int]) -> None:
    """UsageError for cuts that the network has not, or where it has none, and for a network with gates: what these
    leave is not what is cached here."""
    if card.gates:
        raise UsageError(f"{card.name} has gates: codecs are trained for networks without")
    if card.depth < 2:
        raise UsageError(f"{card.name} has 1 block only: there is nowhere to cut")
    for cut in cuts:
        if not 1 <= cut < card.depth:
            raise UsageError(f"cut must be in 1..{card.depth - 1}, not {cut}")


@torch.no_grad()
def activations(network: SplitViT, images: np.ndarray, labels: np.ndarray, cut: int) -> Activations:
    """Run the head on images uint8 (N, H, W, C); the network's device computes, the CPU keeps."""
    device, card = next(network.parameters()).device, network.card
    rows: list[list[Tensor]] = []
    for start in range(0, len(images), 128):
        x = network.embed(torch.from_numpy(normalise(images[start : start + 128], card)).to(device))
        at, u, qbar = 0, None, None
        for after in card.stops(0, cut):
            x, scores = network.run(x, at, after)
            at = after
            if after in card.exits:
                q, u = network.exit(x, card.exits.index(after), u)
                qbar = running_logits(qbar, q)
        rows.append([x.half().cpu(), scores.cpu(), *(v.cpu() for v in (u, qbar) if v is not None)])
    tokens, scores, *state = (torch.cat(parts) for parts in zip(*rows, strict=True))
    u, qbar = state if state else (None, None)
    return Activations(tokens, scores, torch.from_numpy(labels), u, qbar)


def tail_logits(
    network: SplitViT,
    x: Tensor,
    cut: int,
    known: Activations,
    stop: int | None = None,
    keys: Tensor | None = None,
) -> list[Tensor]:
    """Running logits (B, C) of the exits behind the cut, up to block `stop`, on tokens (B, T, d) as received.

    keys: as of `SplitViT.run`
    """
    u, qbar, at, out = known.u, known.qbar, cut, []
    for index in network.card.exits_within(cut, stop or network.card.depth):
        x, _ = network.run(x, at, network.card.exits[index], keys)
        at = network.card.exits[index]
        q, u = network.exit(x, index, u)
        qbar = running_logits(qbar, q)
        out.append(qbar)
    return out


def cached_activations(network: SplitViT, data: TrainingData, cut: int, samples: int) -> Activations:
    """Activations of `samples` training views, epoch after epoch."""
    parts: list[Activations] = []
    epoch = count = 0
    while count < samples:
        images, labels = data.epoch(epoch)
        take = min(len(images), samples - count)
        parts.append(activations(network, images[:take], labels[:take], cut))
        epoch, count = epoch + 1, count + take
    return Activations(*(None if p[0] is None else torch.cat(p) for p in zip(*parts, strict=True)))  # type: ignore[arg-type]
