"""Dynamic batching across devices: one compute thread, so that the event loop never waits for the network.

    event loop: submit ─► inbox ─► compute thread: BatchQueue ─► tail, segment by segment
                done   ◄─ call_soon_threadsafe ◄─────────────────┘ answers as they leave

When the compute thread is free it takes the oldest request's group, whatever is there: an idle server never
waits for company. What takes time to decode (images, entropy-coded planes, merged batches) is decoded on a thread of
its own before it joins the queue. A tail that takes less time than the way to the compute thread and back is called on
the event loop, while nothing else waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

from ..codec.errors import PayloadError
from ..policies.schedule import BatchQueue
from ..policies.service_time import Pace, segment_time
from ..protos import splitpoint_pb2 as pb
from .refusals import Rejected, bad_payload, dropped, failed, queue_full
from .work import Answer, Sample, Tail

__all__ = ["Batcher", "Job", "sleep_until"]

logger = logging.getLogger(__name__)

_QUICK_S = 3e-4
"""Waking another thread of a busy interpreter and being woken by it costs about this much."""

_Results = list[tuple["Job", Answer | Rejected]]


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way through the server.

    received, expires  by time.monotonic(); expires None: no deadline
    done               called on the event loop, once, with the answer or why there is none
    complete           adds to the reply what not every request asks for: a session to refine in, groups' answers
    cancelled          set by `cancel`
    on_cancel          called then, for work that is not looked at between its parts
    """

    sample: Sample
    group: Hashable
    request_id: int
    received: float
    expires: float | None
    done: Callable[[Job, Answer | Rejected], None]
    cancelled: bool = False
    finished: bool = False
    complete: Callable[[Answer, pb.InferReply], None] | None = None
    on_cancel: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.cancelled = True
        if self.on_cancel is not None and not self.finished:
            self.on_cancel()


class Batcher:
    """Bounded queue before one tail. Make and use it on the event loop.

    max_batch    samples in one batch
    max_pending  requests waiting or in work; one more is RESOURCE_EXHAUSTED
    pace         speed of a simulated server, or None for this machine's
    """

    def __init__(self, tail: Tail, *, max_batch: int, max_pending: int, pace: Pace | None = None) -> None:
        self.load = 0
        self._tail, self._max_batch, self._max_pending, self._pace = tail, max_batch, max_pending, pace
        self._loop = asyncio.get_running_loop()
        self._last_run_s = math.inf
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._decoder = ThreadPoolExecutor(1, "decode")
        self._thread = threading.Thread(target=self._compute, name="compute", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job], decode: Callable[[], None] | None = None) -> None:
        """Queue the jobs of one request; `decode`, if given, makes their values first. Raises Rejected when the queue
        has no room for all of them: the parts of a refused request would take others' room."""
        if self.load + len(jobs) > self._max_pending:
            raise queue_full(self.load)
        self.load += len(jobs)
        if decode is not None:
            self._decoder.submit(self._decode, jobs, decode)
        elif self.load == 1 and self._last_run_s < _QUICK_S:
            self._run(jobs, self._deliver)
        else:
            self._queue(jobs)

    def close(self) -> None:
        """Stop the threads; what is queued is finished first."""
        self._decoder.shutdown()
        self._inbox.put(None)
        self._thread.join()

    def _queue(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._inbox.put(job)

    def _decode(self, jobs: Sequence[Job], decode: Callable[[], None]) -> None:
        refusal = dropped(jobs[0].cancelled, jobs[0].expires)
        if refusal is None:
            try:
                decode()
            except PayloadError as error:
                refusal = bad_payload(error)
            except Exception:
                logger.exception("decoding a payload failed")
                refusal = failed()
        if refusal is None:
            self._queue(jobs)
        else:
            self._post([(job, refusal) for job in jobs])

    def _compute(self) -> None:
        inbox, queue = self._inbox, BatchQueue[Job]()
        running = True
        while running or queue:
            if not queue and (job := inbox.get()) is not None:
                queue.push(job.group, job)
            elif not queue:
                return
            while not inbox.empty():
                if (job := inbox.get()) is None:
                    running = False
                else:
                    queue.push(job.group, job)
            gone: _Results = []
            batch = queue.take(self._max_batch, lambda job: _gone(job, gone))  # noqa: B023
            if gone:
                self._post(gone)
            if batch:
                self._run(batch, self._post)

    def _run(self, batch: Sequence[Job], post: Callable[[_Results], None]) -> None:
        waiting = dict(enumerate(batch))
        begun = start = time.perf_counter()
        try:
            for progress in self._tail.run([job.sample for job in batch]):
                if self._pace is not None:
                    start = sleep_until(start + segment_time(self._pace, progress.samples, progress.macs))
                if progress.answers:
                    results: _Results = [(waiting.pop(place), answer) for place, answer in progress.answers]
                    self._last_run_s = time.perf_counter() - begun
                    post(results)
        except Exception:
            logger.exception("the tail failed on a batch of %d", len(batch))
        if waiting:
            post([(job, failed()) for job in waiting.values()])

    def _post(self, results: _Results) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, results)
        except RuntimeError:
            logger.warning("%d answers came after the event loop had closed", len(results))

    def _deliver(self, results: _Results) -> None:
        for job, outcome in results:
            self.load -= 1
            job.finished = True
            job.done(job, outcome)


def _gone(job: Job, gone: _Results) -> bool:
    if refusal := dropped(job.cancelled, job.expires):
        gone.append((job, refusal))
    return refusal is not None


def sleep_until(due: float) -> float:
    """The time from which the next segment counts: `due`, or now where the work itself took longer."""
    now = time.perf_counter()
    if now >= due:
        return now
    time.sleep(due - now)
    return due
