"""One server for requests of several devices: its queue and batches, without an event loop."""

from __future__ import annotations

from dataclasses import dataclass

from ...models.card import ModelCard
from ..schedule import BatchQueue
from ..service_time import Pace, segment_time, segments

__all__ = ["Job", "SharedServer"]


@dataclass(slots=True)
class Job:
    """One request at the server; replied_s stays infinite where nobody waited for it any more.

    exit: the one that answers it; load: requests waiting or in work when it was answered.
    """

    received_s: float
    cut: int
    tokens: int
    exit: int
    answer_by_s: float
    replied_s: float = float("inf")
    load: float = 0.0


class SharedServer:
    """Batches of equal (cut, tokens), segment by segment, as the service and the engine take them."""

    def __init__(self, card: ModelCard, pace: Pace, max_batch: int) -> None:
        self._card, self._pace, self._max_batch = card, pace, max_batch
        self._free_s = 0.0

    def serve(self, jobs: list[Job]) -> None:
        """Work on all `jobs` and fill in `replied_s` and `load`; what came in earlier calls is done first."""
        waiting = sorted(jobs, key=lambda job: job.received_s)
        queue: BatchQueue[Job] = BatchQueue()
        now_s = self._free_s
        came = 0

        def admit(until_s: float) -> None:
            nonlocal came
            while came < len(waiting) and waiting[came].received_s <= until_s:
                queue.push((waiting[came].cut, waiting[came].tokens), waiting[came])
                came += 1

        while came < len(waiting) or queue:
            if not queue:
                now_s = max(now_s, waiting[came].received_s)
            admit(now_s)
            begun_s = now_s
            batch = queue.take(self._max_batch, lambda job: job.answer_by_s <= begun_s)  # noqa: B023 - used at once
            for step in segments(self._card, batch[0].cut, batch[0].tokens) if batch else ():
                if not batch:
                    break
                # What came too late to be worked on must not keep it from what came before.
                self._free_s = now_s = now_s + segment_time(self._pace, len(batch), step.macs)
                admit(now_s)
                leave = [job for job in batch if job.exit <= step.exit]
                batch = [job for job in batch if job.exit > step.exit]
                for job in leave:
                    job.replied_s, job.load = now_s, float(len(queue) + len(batch))
