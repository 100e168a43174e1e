"""Multiply-accumulates of a network's parts in closed form, from its card alone.

Matrix products and convolutions are counted, as `torch.utils.flop_counter` does under the MATH attention
backend (it counts two operations for each); additions, norms, activations and softmax are not.

    block(T) = 4 d^2 T  (q, k, v, projection) + 2 T^2 d  (attention) + 2 d h T  (MLP)

T counts the CLS token, d is the dim, h the MLP's width. On a device whose gates act T counts the budget token
too: block 0 sees all n patches, the blocks behind a gate round(keep n), which is what gates are trained to
leave. Fewer MACs are not always less time: Profiles keep both.
"""

from __future__ import annotations

from .card import ModelCard

__all__ = [
    "block_macs",
    "embed_macs",
    "exit_macs",
    "gate_macs",
    "head_macs",
    "total_macs",
]


def embed_macs(card: ModelCard) -> int:
    """The stem, image to tokens."""
    if card.stem == "patch":
        return card.patch_tokens * card.channels * card.patch**2 * card.dim
    total, width = 0, card.channels
    height, breadth = card.image_size
    for place, out in enumerate(card.stem_channels):
        height, breadth = height // 2, breadth // 2
        total += height * breadth * 9 * width * out
        if card.stem_blocks:
            total += card.stem_blocks[place] * 2 * height * breadth * 9 * out * out
        width = out
    return total + card.patch_tokens * (1 if card.stem_blocks else 9) * width * card.dim


def block_macs(card: ModelCard, tokens: int) -> int:
    """One block on one sample of `tokens` tokens, CLS included."""
    return (4 * card.dim + 2 * tokens + 2 * card.hidden) * card.dim * tokens


def exit_macs(card: ModelCard) -> int:
    """One exit on one sample."""
    if card.exit_kind == "linear":
        return card.dim * card.class_count
    state = card.exit_state_dim
    return card.dim * state + 2 * state * state + state * card.class_count


def gate_macs(card: ModelCard, patches: int) -> int:
    """One gate on one sample of which `patches` patches are left."""
    return (patches + 1) * card.dim


def head_macs(card: ModelCard, cut: int, exits_evaluated: bool = True, keep: float = 1.0) -> int:
    """The device's work up to `cut` on one sample; nothing at cut 0, where the raw input is sent.

    keep counts for networks with gates: below 1 these drop patches on the way, and leave round(keep n).
    """
    if cut == 0:
        return 0
    exits = len(card.exits_within(0, cut)) if exits_evaluated else 0
    n = card.patch_tokens
    if card.gates and keep < 1.0:
        left = round(keep * n)
        blocks = block_macs(card, n + 2) + (cut - 1) * block_macs(card, left + 2)
        blocks += sum(
            gate_macs(card, n if block == 1 else left) for block in range(1, min(cut + 1, card.depth))
        )
    else:
        blocks = cut * block_macs(card, n + 1)
    return embed_macs(card) + blocks + exits * exit_macs(card)


def total_macs(card: ModelCard) -> int:
    """The whole network with all exits on one sample."""
    return head_macs(card, card.depth)
