"""Gates on the compute thread: who shares a batch, and when work stops."""

import asyncio
import json
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from splitpoint.policies.service_time import Pace
from splitpoint.server.gate_work import GateJob
from splitpoint.server.gates import GateLog, GateWorker
from splitpoint.server.refusals import Rejected

IMAGE = np.full((16, 16, 1), 3, np.uint8)


class Asked:
    """Jobs of one worker, and what was told of each."""

    def __init__(self, *runners, **settings):
        self.worker = GateWorker(runners, **({"max_batch": 8, "max_pending": 100} | settings))
        self.told = {}

    def job(self, number, learner=0, first=0, last=2, **fields):
        self.told[number] = []
        self.worker.enter()
        fields = {"values": IMAGE, **fields}
        job = GateJob(learner, number, first, last, self.told[number].append, **fields)
        self.worker.submit(job)
        return job

    async def settled(self):
        end = time.monotonic() + 20.0
        while self.worker.load and time.monotonic() < end:
            await asyncio.sleep(0.002)
        assert self.worker.load == 0


def run(main, *runners, **settings):
    async def inside():
        asked = Asked(*runners, **settings)
        try:
            await main(asked)
            await asked.settled()
        finally:
            asked.worker.close()
        return asked

    return asyncio.run(inside())


def test_opinions_come_gate_by_gate_with_their_work(scripted):
    async def main(asked):
        asked.job(1)
        asked.job(2, first=1, last=1)

    asked = run(main, scripted("a"))
    assert [(o.gate, o.macs, o.last) for o in asked.told[1]] == [
        (0, 100, False),
        (1, 200, False),
        (2, 300, True),
    ]
    # Gate 0 was run for it too, and is charged with the opinion that was asked for.
    assert [(o.gate, o.macs, o.last) for o in asked.told[2]] == [(1, 300, True)]
    assert int(asked.told[1][0].probabilities.argmax()) == 3


def test_those_who_wait_for_the_same_gate_share_a_batch(scripted):
    learner = scripted("a", pause_s=0.02)

    async def main(asked):
        asked.job(0)
        await asyncio.sleep(0.005)
        for number in range(1, 11):
            asked.job(number, last=0)

    run(main, learner)
    assert learner.batches[0] == (0, 1)
    # Ten wait while the first runs: eight fit, and the first goes on as it had come before the two that are left.
    assert (0, 8) in learner.batches
    assert sum(count for gate, count in learner.batches if gate == 0) == 11


def test_learners_do_not_mix(scripted):
    a, b = scripted("a"), scripted("b")

    async def main(asked):
        for number in range(6):
            asked.job(number, learner=number % 2, last=0)

    run(main, a, b)
    assert sum(count for _, count in a.batches) == sum(count for _, count in b.batches) == 3


def test_a_cancelled_job_runs_no_further_gate(scripted):
    learner = scripted("a", pause_s=0.1)

    async def main(asked):
        job = asked.job(1)
        await asyncio.sleep(0.05)
        job.cancelled = True

    asked = run(main, learner)
    assert learner.batches == [(0, 1)]
    assert isinstance(asked.told[1][-1], Rejected)


def test_a_deadline_that_has_passed_stops_it_too(scripted):
    async def main(asked):
        asked.job(1, expires=time.monotonic() + 0.05)

    learner = scripted("a", pause_s=0.1)
    asked = run(main, learner)
    assert learner.batches == [(0, 1)]
    assert asked.told[1][-1].code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_pace_is_that_of_a_batch(scripted):
    async def main(asked):
        since = time.monotonic()
        asked.job(1, last=1)
        await asked.settled()
        # Twice the base, and 300 MACs.
        assert time.monotonic() - since >= 2 * 0.05 + 300 / 1e4

    run(main, scripted("a"), pace=Pace(0.05, 1e4))


def test_a_full_queue_refuses(scripted):
    async def main(asked):
        for number in range(3):
            asked.job(number)
        with pytest.raises(Rejected) as caught:
            asked.worker.enter()
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(main, scripted("a", pause_s=0.02), max_pending=3)


def test_a_learner_that_raises_fails_its_batch_and_no_other(scripted):
    def says(image, gate):
        raise ZeroDivisionError

    async def main(asked):
        asked.job(1, learner=0)
        asked.job(2, learner=1)

    asked = run(main, scripted("broken", says), scripted("b"))
    assert [error.code for error in asked.told[1]] == [grpc.StatusCode.INTERNAL]
    assert len(asked.told[2]) == 3


def test_the_log_says_what_ran_and_when(scripted, tmp_path):
    log = GateLog(tmp_path / "gates.jsonl")

    async def main(asked):
        asked.job(7, last=1)

    before = time.monotonic()
    run(main, scripted("a"), log=log)
    log.close()
    entries = [json.loads(line) for line in (tmp_path / "gates.jsonl").read_text().splitlines()]
    assert [(e["request"], e["learner"], e["gate"]) for e in entries] == [(7, "a", 0), (7, "a", 1)]
    assert (
        before <= entries[0]["begun_s"] <= entries[0]["ended_s"] <= entries[1]["begun_s"] <= time.monotonic()
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
def test_a_full_disk_ends_the_log_and_not_the_work(scripted, caplog):
    async def main():
        log = GateLog(Path("/dev/full"))
        asked = Asked(scripted("a"), log=log)
        for number in (1, 2):
            asked.job(number)
        await asked.settled()
        asked.worker.close()
        log.close()
        return [[opinion.gate for opinion in asked.told[number]] for number in (1, 2)]

    assert asyncio.run(main()) == [[0, 1, 2]] * 2
    assert caplog.messages == ["the gate log /dev/full ends here: No space left on device"]
