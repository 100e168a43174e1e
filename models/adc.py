"""ADC in training: merge alike samples, keep the attended tokens, and let the gradient find its way back.

Source: arXiv 2509.15058. What is merged and kept is decided in `codec.adc` from the attention, detached:

    x'_c = 1/|c| sum over b in c of x_b [kept_c]        y'_c = 1/|c| sum over b in c of onehot(y_b)
    loss = mean over c of CE(tail(x'_c), y'_c)          dx_b [kept_c] = dx'_c / |c|, 0 elsewhere

Labels are merged on the device, so neither the groups nor the positions are sent: a merged row carries its soft
label, and the tail needs no position (they are in the activation). At rate 1 nothing is merged and nothing
dropped, and the step is that of uncompressed split learning.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..codec.adc import Selection, merged_shape, ratios, select
from .split_compression.base import Decoder, Encoder, Geometry, Sent

__all__ = ["AdcDecoder", "AdcEncoder", "merge_tokens", "merged_targets"]


def _shares(selection: Selection, like: Tensor) -> Tensor:
    """(T, B) matrix of means: 1/|c| where a sample belongs to a cluster."""
    assignment = torch.from_numpy(selection.assignment).to(like.device)
    member = functional.one_hot(assignment, len(selection.kept)).T.to(like.dtype)
    return member / member.sum(dim=1, keepdim=True)


def merge_tokens(x: Tensor, selection: Selection) -> Tensor:
    """(T, k, d): each cluster's mean of x (B, n, d) at its kept tokens. Differentiable in x."""
    kept = torch.from_numpy(selection.kept).to(x.device)
    # With as many clusters as samples each sample is its own, in order.
    merged = x if len(kept) == len(x) else torch.einsum("tb,bnd->tnd", _shares(selection, x), x)
    return merged.gather(1, kept.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def merged_targets(classes: Tensor, selection: Selection, count: int) -> Tensor:
    """float (T, C): mean one-hot label of each cluster; classes int64 (B,), C = `count`."""
    onehot = functional.one_hot(classes, count).float()
    return _shares(selection, onehot) @ onehot


class AdcEncoder(Encoder):
    """k-means over the attention, then CLS and the most attended tokens of each cluster.

    rho_batch  clusters over samples, rho_B; 0: sqrt(rate), as rho_T then is
    """

    def __init__(self, geometry: Geometry, rate: float, seed: int, rho_batch: float = 0.0) -> None:
        super().__init__(geometry, rate, seed)
        self._ratios = ratios(rate, rho_batch)

    def encode(self, x: Tensor, attention: Tensor, classes: Tensor, step: int) -> Sent:
        selection = select(attention.detach().float().cpu().numpy(), *self._ratios, seed=self.seed, key=step)
        values = merge_tokens(x, selection)
        if len(values) == len(x):
            return Sent(values, classes)
        return Sent(values, merged_targets(classes, selection, self.geometry.classes))


class AdcDecoder(Decoder):
    """Merged rows are the tail's input as they are; `rho_batch` is the encoder's."""

    def __init__(self, geometry: Geometry, rate: float, seed: int, rho_batch: float = 0.0) -> None:
        super().__init__(geometry, rate, seed)
        self._ratios = ratios(rate, rho_batch)

    def wire_shape(self, outputs: int) -> tuple[int, int, int]:
        kept = merged_shape(outputs, self.geometry.tokens, *self._ratios)[1]
        return outputs, kept, self.geometry.dim

    def decode(self, values: Tensor, indices: bytes, outputs: int) -> Tensor:
        return values
