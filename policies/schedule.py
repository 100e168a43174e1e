"""Who forms a batch: a pure rule, which the service applies to wall-clock time, engine and environments to
simulated time, so that the two cannot drift apart. Needs neither grpc nor torch.

    queue:  oldest request ─► its group (cut, tokens) ─► all waiting of that group, up to max_batch
    batch:  blocks cut..exit ─► answers leave ─► blocks ..next exit ─► ... ─► last exit answers the rest
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["BatchQueue"]

T = TypeVar("T")


class BatchQueue(Generic[T]):
    """Waiting requests in order of arrival, taken in batches of one group. size: how many wait.

    A group is any hashable; on the server (cut, tokens), so that a batch is one array.
    """

    def __init__(self) -> None:
        self._groups: dict[Hashable, deque[tuple[int, T]]] = {}
        self._arrivals = 0
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def push(self, group: Hashable, item: T) -> None:
        waiting = self._groups.get(group)
        if waiting is None:
            waiting = self._groups[group] = deque()
        waiting.append((self._arrivals, item))
        self._arrivals += 1
        self.size += 1

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
                self.size -= 1
                if drop is None or not drop(item):
                    batch.append(item)
                elif not batch:
                    break  # the oldest is gone: another group may now hold the oldest
            if not waiting:
                del groups[group]
        return batch
