"""Gates of several learners on one compute thread, batched over requests that wait for the same learner and gate.

    submit ─► inbox ─► compute thread: BatchQueue by (learner, gate) ─► one gate ─┬─ opinions ─► tell, on the loop
                                        ▲                                         │
                                        └───────────── next gate, if any ◄────────┘

Between two gates a job goes back into the queue: that is where a cancelled or late one is dropped, and where jobs
that came meanwhile join it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from ..policies.schedule import BatchQueue
from ..policies.service_time import Pace, segment_time
from .batching import sleep_until
from .gate_work import GateJob, GateOpinion, GateRunner
from .refusals import Rejected, dropped, failed, queue_full

__all__ = ["GateLog", "GateWorker"]

logger = logging.getLogger(__name__)

_Told = list[tuple[GateJob, GateOpinion | Rejected]]


class GateLog:
    """JSON lines of what was executed or cancelled, with times of time.monotonic(): one clock for a machine's
    processes, so that the work after a cancellation can be counted. Where one cannot be written none follows, and the
    server's own log says so: a measurement must not end what it measures."""

    def __init__(self, path: Path) -> None:
        # Nothing is held back, so that nothing is left to fail when it is closed.
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self._full = False

    def write(self, **entry: object) -> None:
        """One line; from any thread."""
        line = json.dumps(entry) + "\n"
        with self._lock:
            if self._full:
                return
            try:
                self._file.write(line.encode())
            except OSError as error:
                self._full = True
                logger.error("the gate log %s ends here: %s", self._file.name, error.strerror)

    def close(self) -> None:
        self._file.close()


class GateWorker:
    """Make and use it on the event loop.

    max_batch    samples in one gate
    max_pending  jobs waiting or in work; one more is RESOURCE_EXHAUSTED
    pace         speed of a simulated server, or None for this machine's
    """

    def __init__(
        self,
        runners: Sequence[GateRunner],
        *,
        max_batch: int,
        max_pending: int,
        pace: Pace | None = None,
        log: GateLog | None = None,
    ) -> None:
        self.load = 0
        self.runners = tuple(runners)
        self._max_batch, self._max_pending, self._pace, self._log = max_batch, max_pending, pace, log
        self._loop = asyncio.get_running_loop()
        self._inbox: SimpleQueue[GateJob | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._compute, name="gates", daemon=True)
        self._thread.start()

    def enter(self) -> None:
        """Count one more job, before its input is decoded. Raises Rejected when the queue is full."""
        if self.load >= self._max_pending:
            raise queue_full(self.load, "questions")
        self.load += 1

    def leave(self) -> None:
        """Take back `enter` for a job that will not be submitted."""
        self.load -= 1

    def submit(self, job: GateJob) -> None:
        """Queue a job that has entered."""
        self._inbox.put(job)

    def close(self) -> None:
        """Stop the thread; what is queued is finished first."""
        self._inbox.put(None)
        self._thread.join()

    def _compute(self) -> None:
        inbox, queue = self._inbox, BatchQueue[GateJob]()
        running = True
        while running or queue:
            if not queue:
                if (job := inbox.get()) is None:
                    return
                queue.push((job.learner, job.next, job.group), job)
            while not inbox.empty():
                if (job := inbox.get()) is None:
                    running = False
                else:
                    queue.push((job.learner, job.next, job.group), job)
            told: _Told = []
            batch = queue.take(self._max_batch, lambda job: self._gone(job, told))  # noqa: B023
            if batch:
                self._run(batch, told)
                for job in batch:
                    if job.next <= job.last:
                        queue.push((job.learner, job.next, job.group), job)
            if told:
                self._post(told)

    def _gone(self, job: GateJob, told: _Told) -> bool:
        if refusal := dropped(job.cancelled, job.expires):
            told.append((job, refusal))
        return refusal is not None

    def _run(self, batch: list[GateJob], told: _Told) -> None:
        runner, gate = self.runners[batch[0].learner], batch[0].next
        begun_s, start = time.monotonic(), time.perf_counter()
        try:
            if gate == 0:
                states = runner.begin([job.values for job in batch if job.values is not None])
            else:
                states = [job.state for job in batch]
            probabilities, states = runner.advance(states, gate)
        except Exception:
            logger.exception("gate %d of %s failed on a batch of %d", gate, runner.card.name, len(batch))
            for job in batch:
                job.next = job.last + 1
                told.append((job, failed()))
            return
        macs = runner.card.gate_macs[gate]
        if self._pace is not None:
            sleep_until(start + segment_time(self._pace, len(batch), macs))
        for job, row, state in zip(batch, probabilities, states, strict=True):
            job.values, job.state, job.next = None, state, gate + 1
            job.untold_macs += macs
            if gate >= job.first:
                told.append((job, GateOpinion(gate, row, job.untold_macs, gate == job.last)))
                job.untold_macs = 0
            if self._log is not None:
                ended_s, name = time.monotonic(), runner.card.name
                self._log.write(
                    request=job.request_id, learner=name, gate=gate, begun_s=begun_s, ended_s=ended_s
                )

    def _post(self, told: _Told) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell, told)
        except RuntimeError:
            logger.warning("%d opinions came after the event loop had closed", len(told))

    def _tell(self, told: _Told) -> None:
        for job, outcome in told:
            if isinstance(outcome, Rejected) or outcome.last:
                self.load -= 1
            job.tell(outcome)
