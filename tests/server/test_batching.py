import asyncio
import threading
import time
from functools import partial

import grpc
import numpy as np
import pytest

from splitpoint.codec.errors import PayloadError
from splitpoint.policies.service_time import Pace
from splitpoint.server.batching import Batcher, Job, sleep_until
from splitpoint.server.refusals import Rejected
from splitpoint.server.work import Answer, Progress, Sample


class FakeTail:
    """Answers each sample with its number; holds every batch back until `gate` is set."""

    def __init__(self, *, fail_on=None, segments=1):
        self.gate = threading.Event()
        self.gate.set()
        self.batches, self.threads = [], []
        self._fail_on, self._segments = fail_on, segments

    def run(self, samples):
        self.gate.wait(10)
        numbers = [int(sample.values[0]) for sample in samples]
        self.batches.append(numbers)
        self.threads.append(threading.current_thread().name)
        if self._fail_on in numbers:
            raise ZeroDivisionError("on purpose")
        time.sleep(0.001)
        for _ in range(self._segments - 1):
            yield Progress(len(samples), 1000, [])
        yield Progress(len(samples), 1000, [(i, Answer(number, 0.5, 0)) for i, number in enumerate(numbers)])


def run(tail, script, **settings):
    """`script(submit, batcher)` on an event loop; the outcomes by request number."""
    outcomes = {}

    async def main():
        batcher = Batcher(tail, **({"max_batch": 8, "max_pending": 100} | settings))

        def submit(number, group="g", expires=None, decode=None):
            sample = Sample(1, np.array([number]), 2.0)
            job = Job(sample, group, number, time.monotonic(), expires, done)
            batcher.submit([job], decode and partial(fill, sample, decode))
            return job

        def fill(sample, decode):
            sample.values = decode()

        def done(job, outcome):
            assert job.request_id not in outcomes
            outcomes[job.request_id] = outcome

        try:
            await script(submit, batcher)
            end = time.monotonic() + 10
            while batcher.load and time.monotonic() < end:
                await asyncio.sleep(0.005)
            assert batcher.load == 0
        finally:
            tail.gate.set()
            await asyncio.to_thread(batcher.close)

    asyncio.run(main())
    return outcomes


def test_what_waits_while_the_network_is_busy_forms_batches_by_group():
    tail = FakeTail()

    async def script(submit, batcher):
        tail.gate.clear()
        submit(0)
        await asyncio.sleep(0.1)
        for number in range(1, 12):
            submit(number, group="odd" if number % 2 else "even")
        tail.gate.set()

    outcomes = run(tail, script, max_batch=4)
    assert tail.batches == [[0], [1, 3, 5, 7], [2, 4, 6, 8], [9, 11], [10]]
    assert {number: outcome.prediction for number, outcome in outcomes.items()} == {i: i for i in range(12)}
    assert set(tail.threads) == {"compute"}


def test_the_event_loop_goes_on_while_the_network_runs():
    tail = FakeTail()

    async def script(submit, batcher):
        tail.gate.clear()
        submit(1)
        start = time.monotonic()
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert time.monotonic() - start < 1.0
        tail.gate.set()

    assert 1 in run(tail, script)


def test_a_full_queue_refuses_and_takes_requests_again_afterwards():
    tail = FakeTail()

    async def script(submit, batcher):
        tail.gate.clear()
        for number in range(3):
            submit(number)
        with pytest.raises(Rejected, match="queue full") as caught:
            submit(3)
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        tail.gate.set()
        while batcher.load:
            await asyncio.sleep(0.005)
        submit(4)

    assert sorted(run(tail, script, max_pending=3)) == [0, 1, 2, 4]


def test_cancelled_and_expired_requests_never_reach_the_network():
    tail = FakeTail()

    async def script(submit, batcher):
        tail.gate.clear()
        submit(0)
        await asyncio.sleep(0.05)
        submit(1).cancelled = True
        submit(2, expires=time.monotonic() + 0.01)
        submit(3, expires=time.monotonic() + 60)
        await asyncio.sleep(0.05)
        tail.gate.set()

    outcomes = run(tail, script)
    assert tail.batches == [[0], [3]]
    assert outcomes[1].code is grpc.StatusCode.CANCELLED
    assert outcomes[2].code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert outcomes[3].prediction == 3


def test_a_failing_tail_costs_its_batch_and_nothing_else(caplog):
    tail = FakeTail(fail_on=1)

    async def script(submit, batcher):
        submit(1)
        await asyncio.sleep(0.1)
        submit(2)

    outcomes = run(tail, script)
    assert outcomes[1].code is grpc.StatusCode.INTERNAL
    assert outcomes[2].prediction == 2
    assert "on purpose" in caplog.text


def test_images_are_decoded_off_the_event_loop_and_bad_ones_name_their_field():
    tail = FakeTail()
    threads = []

    def decode():
        threads.append(threading.current_thread().name)
        return np.array([41])

    def refuse():
        raise PayloadError("image.data", "is not a picture")

    async def script(submit, batcher):
        submit(1, decode=decode)
        submit(2, decode=refuse)

    outcomes = run(tail, script)
    assert outcomes[1].prediction == 41
    assert outcomes[2].code is grpc.StatusCode.INVALID_ARGUMENT
    assert str(outcomes[2]) == "image.data: is not a picture"
    assert all(name.startswith("decode") for name in threads)


def test_images_that_nobody_waits_for_are_not_decoded():
    decoded, go_on = [], threading.Event()

    async def script(submit, batcher):
        def decoding(number):
            def decode():
                go_on.wait(10)
                decoded.append(number)
                return np.array([number])

            return decode

        submit(0, decode=decoding(0))
        gone = submit(1, decode=decoding(1))
        submit(2, expires=time.monotonic() + 0.01, decode=decoding(2))
        gone.cancel()
        await asyncio.sleep(0.02)
        go_on.set()

    outcomes = run(FakeTail(), script)
    assert decoded == [0]
    codes = grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED
    assert (outcomes[1].code, outcomes[2].code) == codes


def test_a_paced_server_takes_the_scenarios_time():
    tail = FakeTail(segments=3)
    times = {}

    async def script(submit, batcher):
        start = time.monotonic()
        for number in range(4):
            submit(number)
        while batcher.load:
            await asyncio.sleep(0.001)
        times["all"] = time.monotonic() - start

    # One batch of one, one of three: 3 segments each of 10 ms + samples * 1000 MACs at 100 000 a second.
    run(tail, script, pace=Pace(0.01, 1e5))
    batches = [len(batch) for batch in tail.batches]
    expected = sum(3 * (0.01 + samples * 0.01) for samples in batches)
    assert expected <= times["all"] < expected + 0.1


def one_after_another(count):
    """Each is submitted when nothing else is in work."""

    async def script(submit, batcher):
        for number in range(count):
            submit(number)
            while batcher.load:
                await asyncio.sleep(0.001)

    return script


def test_a_tail_quicker_than_a_thread_is_called_on_the_loop():
    class Instant(FakeTail):
        def run(self, samples):
            self.threads.append(threading.current_thread().name)
            yield Progress(len(samples), 0, [(i, Answer(0, 1.0, 0)) for i in range(len(samples))])

    tail = Instant()
    assert len(run(tail, one_after_another(50))) == 50
    assert tail.threads[0] == "compute"
    assert "MainThread" in tail.threads
    # While another request is in work, the loop does not run the network beside it.
    decoding = threading.Event()

    async def busy(submit, batcher):
        submit(0)
        while batcher.load:
            await asyncio.sleep(0.001)
        tail.threads.clear()
        submit(1, decode=lambda: decoding.wait(10) and np.array([1]))
        submit(2)
        decoding.set()

    assert len(run(tail, busy)) == 3
    assert set(tail.threads) == {"compute"}


def test_a_tail_slower_than_a_thread_is_never_called_on_the_loop():
    tail = FakeTail()
    assert len(run(tail, one_after_another(5))) == 5
    assert set(tail.threads) == {"compute"}


def test_who_is_answered_is_not_cancelled_any_more():
    jobs, cancelled = [], []

    async def script(submit, batcher):
        for number in range(2):
            jobs.append(submit(number))
            jobs[-1].on_cancel = lambda number=number: cancelled.append(number)
        jobs[1].cancel()
        while batcher.load:
            await asyncio.sleep(0.001)
        jobs[0].cancel()

    run(FakeTail(), script)
    assert cancelled == [1]


def test_a_segment_that_took_longer_than_its_pace_does_not_hurry_the_next():
    now = time.perf_counter()
    assert sleep_until(now - 1.0) >= now
    assert sleep_until(now + 0.01) == now + 0.01 <= time.perf_counter()
