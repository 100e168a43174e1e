"""The torch tail: a batch of equal cut and token count through the rest of the network, exit by exit.

(B, T, d) ─► blocks cut..e1 ─► exit ─┬─ margin >= exit_margin: answers
                                     └─ the others ─► blocks e1..e2 ─► exit ─► ... ─► last exit: all
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..models.card import ModelCard
from ..models.preprocess import normalise
from ..models.recursion import margin, prediction, running_logits
from ..models.rest import rest_keys
from ..models.vit import SplitViT
from ..policies.service_time import Segment, segments
from .work import Answer, Progress, Sample

__all__ = ["TorchTail"]


class TorchTail:
    """`network` in evaluation mode behind the `Tail` interface.

    threads  torch's threads in this process; more than one helps only where cores are idle
    """

    def __init__(self, network: SplitViT, card: ModelCard, *, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.network, self.card = network.eval(), card

    def run(self, samples: Sequence[Sample]) -> Iterator[Progress]:
        x = self._enter(samples)
        u, logits = _states(samples, self.card)
        keys = rest_keys([sample.rest for sample in samples], x.shape[1])
        wanted = np.array([sample.exit_margin for sample in samples])
        left = np.arange(len(samples))
        for segment in segments(self.card, samples[0].cut, x.shape[1]):
            x, q, u = self._advance(x, u, keys, segment)
            logits = _recur(logits, q)
            margins, predictions = margin(logits), prediction(logits)
            leaving = margins >= wanted[left]
            if segment.stop == self.card.depth:
                leaving[:] = True
            answers = [
                (int(left[i]), Answer(int(predictions[i]), float(margins[i]), segment.exit))
                for i in np.flatnonzero(leaving)
            ]
            yield Progress(len(left), segment.macs, answers)
            if leaving.all():
                return
            if leaving.any():
                stay = ~leaving
                left, logits = left[stay], logits[stay]
                kept = torch.from_numpy(np.flatnonzero(stay))
                x, u = x[kept], u[kept]
                keys = None if keys is None else keys[kept]

    @torch.inference_mode()
    def _enter(self, samples: Sequence[Sample]) -> Tensor:
        batch = np.stack([sample.values for sample in samples])
        if samples[0].cut:
            return torch.from_numpy(batch)
        return self.network.embed(torch.from_numpy(normalise(batch, self.card)))

    @torch.inference_mode()
    def _advance(
        self, x: Tensor, u: Tensor, keys: Tensor | None, segment: Segment
    ) -> tuple[Tensor, np.ndarray, Tensor]:
        x, _ = self.network.run(x, segment.start, segment.stop, keys)
        q, u = self.network.exit(x, segment.exit, u)
        # Absurd but finite inputs may overflow inside; an answer is a number all the same.
        return x, np.nan_to_num(q.numpy()), torch.nan_to_num(u)


def _states(samples: Sequence[Sample], card: ModelCard) -> tuple[Tensor, np.ndarray]:
    """u (B, exit_state_dim), zeros where no exit was passed, and qbar (B, C), NaN there."""
    u = np.zeros((len(samples), card.exit_state_dim), np.float32)
    logits = np.full((len(samples), card.class_count), np.nan, np.float32)
    for row, sample in enumerate(samples):
        if sample.logits is not None and sample.u is not None:
            u[row], logits[row] = sample.u, sample.logits
    return torch.from_numpy(u), logits


def _recur(previous: np.ndarray, q: np.ndarray) -> np.ndarray:
    first = np.isnan(previous[:, 0])
    if first.any():
        return np.where(first[:, None], running_logits(None, q), running_logits(previous, q))
    return running_logits(previous, q)
