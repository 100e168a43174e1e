"""A network with its gates as it is trained: nothing is removed, dropped tokens are masked (`gates.py` says why)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .pruning import KEPT
from .vit import SplitViT

__all__ = ["Gated", "begin_gated", "run_gated", "through_block", "through_gate", "with_gates"]


class Gated(NamedTuple):
    """A batch between two blocks, nothing removed: the form that is trained.

    x          (B, n+2, d); kept patches are multiplied by m, dropped ones go along unseen
    m          (B, n), of the gate that was last; 1 for dropped patches
    keys       (B, n), 1 for kept and 0 for dropped, with the straight-through gradient
    fractions  kept fraction (B,) behind each gate so far, with that gradient
    """

    x: Tensor
    m: Tensor
    keys: Tensor
    fractions: tuple[Tensor, ...] = ()


def begin_gated(network: SplitViT, images: Tensor, alpha: Tensor) -> Gated:
    """Images (B, C, H, W), normalised, and alpha (B,), before the first block."""
    x = torch.cat([network.embed(images), network.gates.budget(alpha)], dim=1)
    ones = x.new_ones(x.shape[0], x.shape[1] - 2)
    return Gated(x, ones, ones)


def run_gated(network: SplitViT, at: Gated, start: int, stop: int) -> Gated:
    """Blocks [start, stop), each with the gate behind it; the last block of the network has none."""
    for index in range(start, stop):
        at = through_block(network, at, index)
        if index + 1 < network.card.depth:
            at = through_gate(network, at, index + 1)
    return at


def through_block(network: SplitViT, at: Gated, index: int) -> Gated:
    """Block `index`, before the gate behind it."""
    x, _ = network.run(at.x, index, index + 1, keys=_with_ends(at.keys))
    return at._replace(x=x * _with_ends(at.m).unsqueeze(-1))


def through_gate(network: SplitViT, at: Gated, index: int) -> Gated:
    """The gate in front of block `index`."""
    weights = network.gates(at.x, index)
    s, theta = network.gates.logits(at.x, index)
    soft = (s - theta[:, None]).sigmoid()
    keys = at.keys * ((weights > KEPT).float() + (soft - soft.detach()))
    m = torch.where(keys > 0.5, weights, torch.ones_like(weights))
    return Gated(at.x * _with_ends(m).unsqueeze(-1), m, keys, (*at.fractions, keys.mean(dim=1)))


def with_gates(network: SplitViT, seed: int) -> SplitViT:
    """The same network with fresh gates, all of them open; itself where it has gates already."""
    if network.card.gates:
        return network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gated = SplitViT(network.card.model_copy(update={"gates": True}))
    gated.load_state_dict(network.state_dict(), strict=False)
    return gated.to(next(network.parameters()).device).train(network.training)


def _with_ends(patches: Tensor) -> Tensor:
    """(B, n) with a 1 for CLS before and one for the budget token behind."""
    one = patches.new_ones(patches.shape[0], 1)
    return torch.cat([one, patches, one], dim=1)
