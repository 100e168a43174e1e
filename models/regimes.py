"""Training regimes of early-exit networks (arXiv 2407.14320): which part learns when.

mixed     the backbone with its last exit first, then all exits together with the backbone
joint     all together from the start
disjoint  the backbone with its last exit first, then the exits on the frozen backbone
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Regime", "freeze_backbone"]

Regime = Literal["mixed", "joint", "disjoint"]

_EXITS = ("exits", "phi")


def freeze_backbone(network: nn.Module, frozen: bool) -> None:
    """Let all but the exits stand still, norms' statistics too, or let it learn again."""
    for name, part in network.named_children():
        if name not in _EXITS:
            part.train(not frozen)
    for name, parameter in network.named_parameters():
        if name.split(".")[0] not in _EXITS:
            parameter.requires_grad_(not frozen)
