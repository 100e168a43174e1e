"""The server's scheduling as pure rules: who forms a batch, which segments follow, how long each takes.

The service applies them to wall-clock time and the virtual-time engine to simulated time, so the two cannot
drift apart. Needs neither grpc nor torch.

    queue:  oldest request ─► its group (cut, tokens) ─► all waiting of that group, up to max_batch
    batch:  blocks cut..exit ─► answers leave ─► blocks ..next exit ─► ... ─► last exit answers the rest
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ..models.card import ModelCard
from ..models.macs import block_macs, embed_macs, exit_macs

__all__ = ["BatchQueue", "Pace", "Segment", "next_exit", "segment_time", "segments"]

T = TypeVar("T")


class BatchQueue(Generic[T]):
    """Waiting requests in order of arrival, taken in batches of one group.

    A group is any hashable; on the server (cut, tokens), so that a batch is one array.
    """

    def __init__(self) -> None:
        self._groups: dict[Hashable, deque[tuple[int, T]]] = {}
        self._arrivals = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, group: Hashable, item: T) -> None:
        waiting = self._groups.get(group)
        if waiting is None:
            waiting = self._groups[group] = deque()
        waiting.append((self._arrivals, item))
        self._arrivals += 1
        self._size += 1

    def take(self, max_batch: int, drop: Callable[[T], bool] | None = None) -> list[T]:
        """The oldest request and those of its group behind it, at most `max_batch`, oldest first.

        Requests for which `drop` says True are thrown away on the way, and neither count nor choose the
        group. Empty only when nothing is left.
        """
        batch: list[T] = []
        groups = self._groups
        while groups and not batch:
            group = min(groups, key=lambda key: groups[key][0][0]) if len(groups) > 1 else next(iter(groups))
            waiting = groups[group]
            while waiting and len(batch) < max_batch:
                item = waiting.popleft()[1]
                self._size -= 1
                if drop is None or not drop(item):
                    batch.append(item)
                elif not batch:
                    break  # the oldest is gone: another group may now hold the oldest
            if not waiting:
                del groups[group]
        return batch


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
