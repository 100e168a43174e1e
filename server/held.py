"""What a server keeps between two messages of one request: bounded in number and in time.

A pure rule without a clock, which the service applies to wall-clock time and the virtual-time engine to
simulated time, as `schedule` does for batches. Needs neither grpc nor torch.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["HOLD_S", "MOST_HELD", "HeldRequests"]

MOST_HELD = 256
HOLD_S = 5.0
"""A device that has not sent more after this long has given up: deadlines are shorter."""

T = TypeVar("T")


class HeldRequests(Generic[T]):
    """Items under keys, each for `hold_s` seconds, at most `most`: one more takes the place of the oldest."""

    def __init__(self, most: int = MOST_HELD, hold_s: float = HOLD_S) -> None:
        self._most, self._hold_s = most, hold_s
        self._items: dict[Hashable, tuple[float, T]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Hashable, item: T, now_s: float) -> None:
        """Keep `item` from `now_s` on; times must not go back. Without room for even one it is gone at once."""
        items = self._items
        items.pop(key, None)
        items[key] = (now_s, item)
        # All are kept equally long, so the first is the oldest.
        while items:
            first = next(iter(items))
            if len(items) <= self._most and now_s - items[first][0] <= self._hold_s:
                return
            del items[first]

    def take(self, key: Hashable, now_s: float) -> T | None:
        """The item, once; None where it never was, was taken, had to go, or was kept too long."""
        since_s, item = self._items.pop(key, (0.0, None))
        return item if item is not None and now_s - since_s <= self._hold_s else None

    def clear(self) -> None:
        """Forget all: what a server that dies does."""
        self._items.clear()
