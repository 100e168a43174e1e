"""Multiply-accumulates of a `SplitConv` in closed form, from its card alone; counted as `macs` counts them.

convolution(h, b, k, in, out, groups) = h b k^2 in out / groups      h, b of its output
"""

from __future__ import annotations

from .conv_card import ConvCard, ConvStage

__all__ = ["conv_gate_macs"]


def _block_macs(stage: ConvStage) -> int:
    """One block, for each place of the map."""
    dense = stage.kernel**2 * stage.width**2
    if stage.kind == "inverted":
        return 2 * stage.width * (2 * stage.width + stage.kernel**2)
    return 2 * dense if stage.kind == "residual" else dense


def conv_gate_macs(card: ConvCard) -> tuple[int, ...]:
    """Of each gate's segment: the stages behind the gate before, with the stem at the first, and the exit."""
    height, breadth = (side // card.stem_stride for side in card.image_size)
    done = height * breadth * card.stem_kernel**2 * card.channels * card.stem_width
    width, found = card.stem_width, []
    for count, stage in enumerate(card.stages, start=1):
        kernel = 3 if stage.kind == "inverted" else stage.kernel
        if stage.down == "stride":
            height, breadth = height // 2, breadth // 2
        done += height * breadth * kernel**2 * width * stage.width
        if stage.down in ("max", "mean"):
            height, breadth = height // 2, breadth // 2
        done += stage.blocks * height * breadth * _block_macs(stage)
        width = stage.width
        if count in card.exits:
            state = card.exit_state_dim
            exit_ = card.pooled(count) * state + 2 * state * state + state * card.class_count
            found.append(done + exit_)
            done = 0
    return tuple(found)
