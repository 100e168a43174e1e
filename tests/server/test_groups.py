"""Merged batches on the server: each group is a sample like any other, and one reply carries all answers."""

import asyncio

import grpc
import numpy as np
import pytest

from splitpoint.codec.adc import MOST_GROUPS, Merged, merge
from splitpoint.codec.requests import GROUP_BYTES, build_request, payload_crc
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import Refused, ServiceClient
from splitpoint.server.groups import submit_groups
from splitpoint.server.refusals import Rejected
from splitpoint.server.validation import Checked, Validator
from splitpoint.server.work import Answer, Sample

CODE = grpc.StatusCode
CUT, BATCH, GROUPS = 2, 6, 3


def merged_request(small, number=1):
    card, random = small.card, np.random.default_rng(number)
    tokens = random.standard_normal((BATCH, card.patch_tokens + 1, card.dim)).astype(np.float32)
    attention = random.random((BATCH, card.patch_tokens)).astype(np.float32)
    merged = merge(tokens, attention, GROUPS / BATCH, 0.6, seed=0)
    assert len(merged.tokens) == GROUPS
    return small.carrying(small.codec.encode_merged(merged, CUT, bits=5), number, groups=GROUPS)


def alone(small, request, group):
    """The group's own request, as a sample that was never merged would send it."""
    card, tokens = small.card, request.tokens
    sample = Validator(card, small.codec).check(request).decoded()[group]
    quantised = small.codec.quantised(sample.values, None, CUT, 1.0, 0)[0]
    width = (card.exit_state_dim, card.class_count)
    state = pb.ExitState(
        state=request.exit_state.state[2 * width[0] * group : 2 * width[0] * (group + 1)],
        logits=request.exit_state.logits[2 * width[1] * group : 2 * width[1] * (group + 1)],
        exits_passed=request.exit_state.exits_passed,
        margin=0.25,
    )
    single = build_request(
        model_id=card.id,
        request_id=100 + group,
        cut=CUT,
        deadline_s=20.0,
        exit_margin=2.0,
        payload=small.codec.message(quantised, CUT, 8),
        exit_state=state,
    )
    assert single.tokens.count == tokens.count
    return single


def test_every_group_is_answered_as_a_sample_of_its_own(small, served):
    async def main():
        async with ServiceClient(served.address) as client:
            stream = client.stream()
            for number in range(1, 5):
                request = merged_request(small, number)
                streamed, unary = await stream.infer(request, 20.0), await client.infer(request)
                assert streamed.request_id == number
                assert len(streamed.group) == GROUPS - 1
                answers = [streamed, *streamed.group]
                for group, answer in enumerate(answers):
                    own = await client.infer(alone(small, request, group))
                    # Quantised once more on the way: near, and of the same class but for near ties.
                    assert answer.margin == pytest.approx(own.margin, abs=0.02)
                    assert answer.prediction == own.prediction or own.margin < 0.02
                assert [a.prediction for a in (unary, *unary.group)] == [a.prediction for a in answers]
                plain = await client.infer(small.request(number))
                assert streamed.ByteSize() == plain.ByteSize() + (GROUPS - 1) * GROUP_BYTES

    asyncio.run(main())


def edits():
    def assignment(data, samples=None):
        def change(request):
            request.tokens.groups.assignment = data
            request.tokens.groups.samples = len(data) if samples is None else samples

        return change

    def state(request):
        request.exit_state.logits = request.exit_state.logits[:-2]

    return [
        ("tokens.groups.assignment", assignment(bytes([0, 1, 2, 0]), samples=5)),
        ("tokens.groups.assignment", assignment(bytes([0, 2, 2, 0]))),
        ("tokens.groups.assignment", assignment(b"")),
        ("tokens.groups", assignment(bytes(range(65)))),
        ("exit_state.state", assignment(bytes([0, 1, 2, 3]))),
        ("exit_state.logits", state),
    ]


@pytest.mark.parametrize(("field", "change"), edits())
def test_groups_that_do_not_fit_are_refused_by_name(small, field, change):
    request = merged_request(small)
    change(request)
    request.payload_crc = payload_crc(request)
    with pytest.raises(Rejected, match=rf"^{field}: ") as caught:
        Validator(small.card, small.codec).check(request)
    assert caught.value.code is CODE.INVALID_ARGUMENT


def test_as_many_groups_as_a_message_may_have_batch_with_equal_ones(small):
    shape = MOST_GROUPS, 3, small.card.dim
    tokens = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    merged = Merged(tokens, np.zeros(shape[:2], np.int64), np.arange(MOST_GROUPS), 1.0)
    request = small.carrying(small.codec.encode_merged(merged, CUT), 1, groups=MOST_GROUPS)
    checked = Validator(small.card, small.codec).check(request)
    assert checked.group == (CUT, 3)
    samples = checked.decoded()
    assert len(samples) == MOST_GROUPS
    np.testing.assert_allclose([sample.values for sample in samples], tokens, atol=0.05)


class Queue:
    """A batcher that keeps what it is given."""

    def __init__(self):
        self.jobs = []

    def submit(self, jobs, decode):
        self.jobs += jobs


def submitted():
    queue, outcomes = Queue(), []
    samples = tuple(Sample(CUT, np.zeros((3, 4), np.float32), 2.0) for _ in range(GROUPS))
    job = submit_groups(
        queue, Checked(samples, (CUT, 3), None, None), 7, 0.0, None, lambda *told: outcomes.append(told)
    )
    return queue, job, outcomes


def test_the_reply_waits_for_the_last_group_and_keeps_their_order():
    queue, job, outcomes = submitted()
    for place in (1, 0, 2):
        assert not outcomes
        queue.jobs[place].finished = True
        queue.jobs[place].done(queue.jobs[place], Answer(place, 0.1 * place, 2))
        assert job.finished == (place == 2)
    assert outcomes == [(job, Answer(0, 0.0, 2))]
    job.complete(Answer(0, 0.0, 2), reply := pb.InferReply())
    assert [group.prediction for group in reply.group] == [1, 2]


def test_one_refused_group_refuses_the_request_once():
    queue, job, outcomes = submitted()
    refusal = Rejected(CODE.DEADLINE_EXCEEDED, "too late")
    queue.jobs[1].done(queue.jobs[1], refusal)
    queue.jobs[0].done(queue.jobs[0], Answer(0, 0.5, 2))
    assert outcomes == [(job, refusal)]
    assert all(part.cancelled for part in queue.jobs)


def test_a_request_that_nobody_waits_for_is_given_up_as_a_whole():
    queue, job, outcomes = submitted()
    queue.jobs[0].done(queue.jobs[0], Answer(0, 0.5, 2))
    job.cancel()
    assert all(part.cancelled for part in queue.jobs)
    assert not outcomes


def test_a_full_server_refuses_a_merged_batch(small, start):
    server = start(max_pending=2)

    async def main():
        async with ServiceClient(server.address) as client:
            with pytest.raises(Refused, match="queue full") as caught:
                await client.infer(merged_request(small))
            await client.infer(small.request(3))
            return caught.value.code

    assert asyncio.run(main()) is CODE.RESOURCE_EXHAUSTED
