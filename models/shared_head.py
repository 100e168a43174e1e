"""Tails over one shared head: the device sends its tokens once, and E small tails give E opinions of them.

The head is a trained SplitViT up to a cut, frozen; a tail is a `SplitConv` on the map of its patch tokens, whose
card names the head's id and the cut.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..seeding import generator
from .card import ModelCard
from .conv import SplitConv
from .conv_card import ConvCard, ConvStage
from .learner import token_map
from .pool_config import LearnerConfig
from .vit import SplitViT

__all__ = ["Behind", "SharedHead", "tail_configs"]

_KINDS: dict[str, dict[str, Any]] = {
    "residual": {"stem_width": 48, "kind": "residual", "width": 64},
    "plain": {"stem_width": 64, "kind": "plain", "width": 64, "activation": "silu", "pool": "max"},
    "inverted": {"stem_width": 64, "kind": "inverted", "width": 80, "activation": "hardswish"},
    "wide": {"stem_width": 64, "kind": "residual", "width": 96, "activation": "gelu", "pool": "both"},
    "kernels": {"stem_width": 32, "kind": "plain", "width": 48, "kernel": 5, "pool": "both"},
}


class SharedHead:
    """Images to the map (B, d, rows, columns) that the tails start from; no gradient reaches the head."""

    def __init__(self, network: SplitViT, cut: int) -> None:
        if not 1 <= cut < network.card.depth:
            raise UsageError(f"cut {cut} is not within depth {network.card.depth} of {network.card.name}")
        self.network, self.cut = network.eval().requires_grad_(False), cut

    @property
    def card(self) -> ModelCard:
        return self.network.card

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        rows, columns = (side // self.card.patch for side in self.card.image_size)
        return rows, columns

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        tokens, _ = self.network.run(self.network.embed(images), 0, self.cut)
        return token_map(tokens, self.size)


class Behind(nn.Module):
    """A tail with its head before it: images float (B, C, H, W) to the logits of the tail's exits."""

    def __init__(self, head: SharedHead, tail: SplitConv) -> None:
        super().__init__()
        self.head, self.tail = head, tail

    def forward(self, images: Tensor) -> list[Tensor]:
        logits: list[Tensor] = self.tail(self.head(images))
        return logits


def tail_configs(head: SharedHead, seed: int = 0, **changes: Any) -> list[LearnerConfig]:
    """Configurations of five tails with three gates each, named HEAD-tailCUT-KIND; `changes` as in `pool_configs`."""
    found = []
    for place, (kind, fields) in enumerate(_KINDS.items()):
        own = {name: fields[name] for name in ("stem_width", "activation", "pool") if name in fields}
        stages = tuple(
            ConvStage(
                width=fields["width"] * (2 + gate) // 2,
                kind=fields["kind"],
                kernel=fields.get("kernel", 3),
                # The map is halved at the second and third gate, where its sides can be.
                down="stride" if gate and not any(side % 2**gate for side in head.size) else "none",
            )
            for gate in range(3)
        )
        card = ConvCard(
            name=f"{head.card.name}-tail{head.cut}-{kind}",
            image_size=head.size,
            channels=head.card.dim,
            classes=head.card.classes,
            mean=(0.0,) * head.card.dim,
            std=(1.0,) * head.card.dim,
            stages=stages,
            exits=(1, 2, 3),
            exit_state_dim=64,
            head_id=head.card.id,
            cut=head.cut,
            **own,
        )
        own_seed = int(generator(seed, "tail", place).integers(1 << 31))
        found.append(LearnerConfig.model_validate({"card": card, "seed": own_seed} | changes))
    return found
