"""What compute of given speed needs: seconds to every cut on a device, segments between exits on a server.

The service is paced by it, the virtual-time engine, the environments and the policies' predictions reckon with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..models.card import ModelCard
from ..models.macs import block_macs, embed_macs, exit_macs, head_macs

__all__ = ["Pace", "Segment", "block_times", "next_exit", "segment_time", "segments", "times_at_keep"]


def block_times(card: ModelCard, macs_per_s: float) -> tuple[float, ...]:
    """Seconds on a device from the input to every cut, the exits on the way included; (depth + 1,), the first 0."""
    return (0.0, *(head_macs(card, cut) / macs_per_s for cut in range(1, card.depth + 1)))


def times_at_keep(card: ModelCard, block_s: tuple[float, ...], keep: float) -> tuple[float, ...]:
    """Such times at another keep: gates leave the device less to do, and time goes as the work.

    The same for networks without gates, which choose only when they send.
    """
    if keep == 1.0 or not card.gates:
        return block_s
    return tuple(
        seconds * head_macs(card, cut, keep=keep) / max(1, head_macs(card, cut))
        for cut, seconds in enumerate(block_s)
    )


class Segment(NamedTuple):
    """Blocks `start`..`stop`-1 and the exit after them."""

    start: int
    stop: int
    exit: int
    macs: int
    """Multiply-accumulates for one sample: blocks, exit, and the embedding where the image comes in."""


def next_exit(card: ModelCard, cut: int) -> int:
    """Index of the first exit behind the cut; as many exits are passed on the device."""
    return sum(blocks <= cut for blocks in card.exits)


def segments(card: ModelCard, cut: int, tokens: int) -> tuple[Segment, ...]:
    """What a request cut after `cut` blocks has before it, with `tokens` tokens (CLS included)."""
    start, result = cut, []
    for index in range(next_exit(card, cut), len(card.exits)):
        stop = card.exits[index]
        macs = (stop - start) * block_macs(card, tokens) + exit_macs(card)
        if start == 0:
            macs += embed_macs(card)
        result.append(Segment(start, stop, index, macs))
        start = stop
    return tuple(result)


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed of a simulated server: each segment costs `base_s` seconds and its MACs over `macs_per_s`."""

    base_s: float = 0.0
    macs_per_s: float = math.inf


def segment_time(pace: Pace, samples: int, macs: int) -> float:
    """Seconds that a segment of `macs` for one sample takes on a batch of `samples`."""
    return pace.base_s + samples * macs / pace.macs_per_s
