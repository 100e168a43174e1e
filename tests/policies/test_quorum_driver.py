"""The quorum in real time: who is waited for, for how long, and what is cancelled."""

import asyncio
import time

import numpy as np
import pytest

from splitpoint.policies.coordination import Opinion, coordinate
from splitpoint.policies.quorum import QuorumRule
from splitpoint.policies.quorum_driver import Silent, drive

GATES = 3
RULE = QuorumRule(alpha=1.0)
SURE = np.array([0.9, 0.05, 0.05], np.float32)
UNSURE = np.array([0.25, 0.5, 0.25], np.float32)


class Learners:
    """Scripts: `says[learner]` is a list of (seconds, probabilities) or an exception, a gate each."""

    def __init__(self, says):
        self.says, self.begun, self.closed, self.lost = says, [], [], []

    async def ask(self, learner, first, last):
        self.begun.append((learner, first, last))
        try:
            for gate in range(first, last + 1):
                said = self.says[learner][gate]
                if isinstance(said, Exception):
                    raise said
                await asyncio.sleep(said[0])
                yield Opinion(learner, gate, said[1], 10)
        finally:
            self.closed.append(learner)

    def verdict(self, *, parallel, limit_s=5.0, patience_s=2.0, order=(0, 1, 2), rule=RULE, early=()):
        async def main():
            steps = coordinate(rule, list(order), GATES, parallel=parallel, early=early)
            until_s = asyncio.get_running_loop().time() + limit_s
            try:
                return await drive(
                    steps,
                    self.ask,
                    until_s=until_s,
                    patience_s=patience_s,
                    lost=lambda learner, error: self.lost.append((learner, error)),
                )
            finally:
                # Cancelled tasks end on the loop's next turns.
                await asyncio.sleep(0.01)

        since = time.monotonic()
        found = asyncio.run(main())
        self.took_s = time.monotonic() - since
        return found


def quick(probabilities):
    return [(0.0, probabilities)] * GATES


@pytest.mark.parametrize("parallel", [False, True])
def test_two_that_agree_are_enough_and_the_third_is_left_alone(parallel):
    learners = Learners([quick(SURE), quick(SURE), [(60.0, SURE)] * GATES])
    verdict = learners.verdict(parallel=parallel)
    assert (verdict.prediction, verdict.gate, verdict.votes, verdict.reason) == (0, 0, 2, "quorum")
    assert learners.took_s < 1.0
    assert sorted(set(learners.closed)) == ([0, 1, 2] if parallel else [0, 1])
    assert ((2, 0, GATES - 1) in learners.begun) is parallel
    assert learners.lost == []


@pytest.mark.parametrize("parallel", [False, True])
def test_a_silent_learner_is_given_up_after_the_patience_and_never_blocks(parallel):
    learners = Learners([[(60.0, SURE)] * GATES, quick(SURE), quick(SURE)])
    verdict = learners.verdict(parallel=parallel, patience_s=0.1)
    assert (verdict.prediction, verdict.votes) == (0, 2)
    assert 0.1 <= learners.took_s < 1.0
    [(learner, error)] = learners.lost
    assert learner == 0
    assert isinstance(error, Silent)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_learner_that_fails_is_gone_at_once(parallel):
    broken = ConnectionError("gone")
    learners = Learners([[(0.0, UNSURE), broken, broken], quick(UNSURE), quick(SURE)])
    verdict = learners.verdict(parallel=parallel, rule=QuorumRule(alpha=0.0))
    assert verdict.gate == GATES - 1
    assert verdict.votes == 2
    assert verdict.reason == "last"
    assert learners.lost == [(0, broken)]


def test_the_deadline_takes_what_is_there():
    learners = Learners([[(0.0, UNSURE), (60.0, SURE), (0.0, SURE)]] * 3)
    verdict = learners.verdict(parallel=True, limit_s=0.2, rule=QuorumRule(alpha=0.0))
    assert (verdict.prediction, verdict.gate, verdict.reason) == (1, 0, "deadline")
    assert 0.1 <= learners.took_s < 1.0
    assert learners.closed == [0, 1, 2]
    # Their silence was cut short: it says nothing about them.
    assert learners.lost == []


def test_nobody_s_opinion_is_none():
    learners = Learners([[ConnectionError()] * GATES] * 3)
    assert learners.verdict(parallel=False) is None
    assert learners.verdict(parallel=True) is None
    assert learners.verdict(parallel=False, order=()) is None


def test_a_stream_that_ends_early_is_a_learner_that_is_gone():
    class Short(Learners):
        async def ask(self, learner, first, last):
            if learner:
                yield Opinion(learner, 0, SURE, 10)

    learners = Short([])
    verdict = learners.verdict(parallel=True, rule=QuorumRule(alpha=0.0))
    assert (verdict.gate, verdict.votes) == (0, 2)
    assert {learner for learner, _ in learners.lost} == {0, 1, 2}


def test_who_gives_up_the_whole_question_cancels_all_asks():
    learners = Learners([[(60.0, SURE)] * GATES] * 3)

    async def main():
        steps = coordinate(RULE, [0, 1, 2], GATES, parallel=True)
        until_s = asyncio.get_running_loop().time() + 60.0
        task = asyncio.create_task(drive(steps, learners.ask, until_s=until_s, patience_s=30.0))
        await asyncio.sleep(0.05)
        assert learners.closed == []
        task.cancel()
        await asyncio.sleep(0.05)
        assert task.cancelled()

    asyncio.run(main())
    assert learners.closed == [0, 1, 2]


def test_what_the_device_thinks_counts_without_being_asked():
    early = [Opinion(0, 0, SURE, 0)]
    learners = Learners([None, quick(SURE), quick(SURE)])
    verdict = learners.verdict(parallel=False, order=(1, 2), early=early)
    assert (verdict.votes, verdict.asked, verdict.macs) == (2, 2, 10)
    assert learners.begun == [(1, 0, 0)]
