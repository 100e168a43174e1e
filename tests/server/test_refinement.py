"""A server that asks for more: what it then answers, and what becomes of sessions that are lost."""

import asyncio
import time

import grpc
import numpy as np
import pytest

from splitpoint.codec.refinement import build_refinement
from splitpoint.codec.requests import payload_crc
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import Refused, ServiceClient
from splitpoint.server.refinement import Refinement
from splitpoint.server.refusals import Rejected
from splitpoint.server.validation import Validator
from splitpoint.server.work import Answer

CODE = grpc.StatusCode
CUT, FIRST, WHOLE = 2, 2, 5


def quantised(small, number, keep=1.0):
    random = np.random.default_rng(number)
    tokens = random.standard_normal((small.card.patch_tokens + 1, small.card.dim)).astype(np.float32)
    scores = random.random(small.card.patch_tokens).astype(np.float32)
    return small.codec.quantised(tokens, scores, CUT, keep, 0)[0]


def first_request(small, number, refine_margin):
    payload = small.codec.message(quantised(small, number), CUT, FIRST)
    return small.carrying(payload, number, refine_margin=refine_margin)


def second_request(small, number, session, **changes):
    planes = small.codec.further_planes(quantised(small, number), CUT, FIRST, WHOLE)
    fields = {"request_id": number, "session": session, "planes": planes}
    return build_refinement(**{**fields, **changes})


def answer(reply):
    return reply.prediction, reply.exit, pytest.approx(reply.margin, abs=1e-5)


def test_a_refined_request_is_answered_as_if_all_had_been_sent_at_once(small, served):
    async def main():
        async with ServiceClient(served.address) as client:
            stream = client.stream()
            for number in range(1, 9):
                first = await stream.infer(first_request(small, number, 1.1), 20.0)
                assert first.wants_refinement
                assert first.session
                plain = small.codec.message(quantised(small, number), CUT, FIRST)
                assert answer(await stream.infer(small.carrying(plain, number), 20.0)) == answer(first)
                refined = await client.refine(second_request(small, number, first.session))
                assert not refined.HasField("wants_refinement")
                assert refined.request_id == number
                whole = small.codec.message(quantised(small, number), CUT, WHOLE)
                at_once = await stream.infer(small.carrying(whole, number), 20.0)
                assert answer(refined) == answer(at_once)

    asyncio.run(main())


def test_each_request_is_held_under_a_session_of_its_own_with_all_that_its_answer_hangs_on(small):
    refinement, sessions = Refinement(small.codec), {}
    for number in range(1, 6):
        asked = small.carrying(
            small.codec.message(quantised(small, number), CUT, FIRST), number, refine_margin=1.1
        )
        asked.exit_margin = number / 10
        reply = pb.InferReply()
        refinement.completes(asked, Validator(small.card, small.codec).check(asked).sample)(
            Answer(0, 0.5, 2), reply
        )
        sessions[number] = reply.session
    assert len(set(sessions.values())) == 5
    # Nobody guesses them.
    assert sum(session > 2**40 for session in sessions.values()) >= 4
    for number, session in sessions.items():
        sample, _ = refinement.resume(second_request(small, number, session))
        assert (sample.cut, sample.exit_margin) == (CUT, pytest.approx(number / 10))


def test_a_sure_answer_stands_and_nothing_is_held(small, served):
    async def main():
        async with ServiceClient(served.address) as client:
            margin = (await client.infer(first_request(small, 1, 0.0))).margin
            replies = [
                await client.infer(first_request(small, 1, refine_margin))
                for refine_margin in (margin - 1e-3, margin + 1e-3)
            ]
            return [reply.HasField("session") for reply in replies]

    assert asyncio.run(main()) == [False, True]


def test_further_tokens_count_as_sent_with_the_first(small, served):
    whole = quantised(small, 1)
    # A shared range is held once, and holds for both.
    rows = [
        type(whole)(*(part if len(part) == 1 else part[place] for part in whole[:3]))
        for place in (slice(0, 9), slice(9, None))
    ]
    first, rest = (small.codec.message(part, CUT, 8) for part in rows)

    async def main():
        async with ServiceClient(served.address) as client:
            asked = await client.infer(small.carrying(first, refine_margin=1.1))
            more = second_request(small, 1, asked.session, planes=(), tokens=rest)
            refined = await client.refine(more)
            at_once = await client.infer(small.carrying(small.codec.message(whole, CUT, 8)))
            return refined, at_once

    refined, at_once = asyncio.run(main())
    assert answer(refined) == answer(at_once)


def test_further_tokens_are_no_longer_counted_in_the_rest_token(small):
    refinement = Refinement(small.codec)
    payload = small.codec.message(quantised(small, 3, 0.5), CUT, WHOLE)
    patches = small.card.patch_tokens
    payload.rest = patches - (payload.count - 2)
    asked = small.carrying(payload, 3, refine_margin=1.1)
    sample = Validator(small.card, small.codec).check(asked).sample
    reply = pb.InferReply()
    refinement.completes(asked, sample)(Answer(0, 0.5, 2), reply)
    further = small.codec.message(quantised(small, 4, 0.25), CUT, WHOLE)
    refined, found = refinement.resume(second_request(small, 3, reply.session, planes=(), tokens=further))
    assert (sample.rest, refined.rest) == (payload.rest, payload.rest - further.count)
    assert len(found.tokens()) == found.rows == payload.count + further.count


def test_further_tokens_have_no_rest_token(small):
    refinement = Refinement(small.codec)
    payload = small.codec.message(quantised(small, 3, 0.5), CUT, WHOLE)
    asked = small.carrying(payload, 3, refine_margin=1.1)
    reply = pb.InferReply()
    sample = Validator(small.card, small.codec).check(asked).sample
    refinement.completes(asked, sample)(Answer(0, 0.5, 2), reply)
    further = small.codec.message(quantised(small, 4, 0.25), CUT, WHOLE)
    further.rest = 1
    with pytest.raises(Rejected, match=r"tokens\.rest"):
        refinement.resume(second_request(small, 3, reply.session, planes=(), tokens=further))


@pytest.mark.parametrize("rest", [1, 4])
def test_further_tokens_are_no_more_than_the_rest_token_stands_for(small, rest):
    # Gates may have dropped patches on the device, so that fewer were left to send than there is room for.
    refinement = Refinement(small.codec)
    payload = small.codec.message(quantised(small, 3, 0.25), CUT, WHOLE)
    payload.rest = rest
    asked = small.carrying(payload, 3, refine_margin=1.1)
    sample, reply = Validator(small.card, small.codec).check(asked).sample, pb.InferReply()
    refinement.completes(asked, sample)(Answer(0, 0.5, 2), reply)
    further = small.codec.message(quantised(small, 4, 0.25), CUT, WHOLE)
    with pytest.raises(Rejected, match=r"tokens\.count: must be at most the rest token's"):
        refinement.resume(second_request(small, 3, reply.session, planes=(), tokens=further))


def damaged(message):
    message.payload_crc ^= 1
    return message


def of_version(version, message):
    message.protocol_version = version
    return message


@pytest.mark.parametrize(
    ("code", "field", "spoil"),
    [
        (CODE.NOT_FOUND, "session", lambda small, s: second_request(small, 1, s ^ 1)),
        (CODE.NOT_FOUND, "session", lambda small, s: second_request(small, 1, s, request_id=2)),
        (CODE.INVALID_ARGUMENT, "planes", lambda small, s: second_request(small, 1, s, planes=())),
        (CODE.INVALID_ARGUMENT, "planes", lambda small, s: second_request(small, 1, s, planes=[b""] * 7)),
        (CODE.INVALID_ARGUMENT, "tokens.planes", lambda small, s: second_request(small, 1, s, planes=[b"x"])),
        (CODE.INVALID_ARGUMENT, "payload_crc", lambda small, s: damaged(second_request(small, 1, s))),
        (
            CODE.FAILED_PRECONDITION,
            "protocol_version",
            lambda small, s: of_version(9, second_request(small, 1, s)),
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(small, served, code, field, spoil):
    async def main():
        async with ServiceClient(served.address) as client:
            asked = await client.infer(first_request(small, 1, 1.1))
            with pytest.raises(Refused, match=rf"{field}: ") as caught:
                await client.refine(spoil(small, asked.session))
            return caught.value.code

    assert asyncio.run(main()) is code


def test_a_session_serves_once_and_not_for_ever(small, monkeypatch):
    refinement, validator = Refinement(small.codec, most=1, hold_s=2.0), Validator(small.card, small.codec)

    def asked(number):
        message = first_request(small, number, 0.5)
        reply = pb.InferReply()
        refinement.completes(message, validator.check(message).sample)(Answer(0, 0.4, 2), reply)
        return reply.session

    lost, kept = asked(1), asked(2)
    _, found = refinement.resume(second_request(small, 2, kept))
    whole = small.codec.message(quantised(small, 2), CUT, WHOLE)
    np.testing.assert_array_equal(found.tokens(), small.codec.decode(whole, CUT))
    late = asked(3)
    later_s = time.monotonic() + 3.0
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    for number, session in ((1, lost), (2, kept), (3, late)):
        with pytest.raises(Rejected, match="no request is held") as caught:
            refinement.resume(second_request(small, number, session))
        assert caught.value.code is CODE.NOT_FOUND


def test_unknown_fields_are_not_kept_and_a_draining_server_does_not_ask(small):
    refinement, validator = Refinement(small.codec), Validator(small.card, small.codec)
    message = first_request(small, 1, 1.1)
    # Field 99 of Tokens, a megabyte long.
    data = message.tokens.SerializeToString() + b"\x9a\x06" + b"\x80\x80\x40" + bytes(1 << 20)
    message.tokens.ParseFromString(data)
    complete = refinement.completes(message, validator.check(message).sample)
    refinement.asking = False
    complete(Answer(0, 0.1, 2), reply := pb.InferReply())
    assert not reply.HasField("session")
    refinement.asking = True
    complete(Answer(0, 0.1, 2), reply)
    held = refinement._held.take(reply.session, time.monotonic())
    assert len(held.tokens) < 2000


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("refine_margin", lambda message: message.ClearField("refine_margin")),
        ("refine_margin", lambda message: setattr(message, "refine_margin", float("nan"))),
        ("refine", lambda message: message.tokens.groups.SetInParent()),
    ],
)
def test_what_cannot_be_refined_is_refused(small, field, change):
    message = first_request(small, 1, 0.5)
    change(message)
    message.payload_crc = payload_crc(message)
    with pytest.raises(Rejected, match=rf"^{field}: ") as caught:
        Validator(small.card, small.codec).check(message)
    assert caught.value.code is CODE.INVALID_ARGUMENT
