"""The second message of a request: whole, small, and what would have been sent at once."""

from __future__ import annotations

import numpy as np
import pytest

from splitpoint.codec.errors import PayloadError
from splitpoint.codec.refinement import (
    ASK_BYTES,
    build_refinement,
    check_refinement,
    extended,
    refined,
    wants_more,
)
from splitpoint.codec.requests import build_reply
from splitpoint.codec.tokens import TokenCodec
from splitpoint.protos import splitpoint_pb2 as pb

DIM, CUT = 12, 2


def refinement(**changes: object) -> pb.RefineRequest:
    fields = {"request_id": 3, "session": 2**63, "planes": [b"ab", b"cd"]}
    return build_refinement(**{**fields, **changes})


def test_only_what_is_missing_is_sent() -> None:
    random = np.random.default_rng(0)
    codec = TokenCodec({}, dim=DIM)
    quantised, _ = codec.quantised(random.normal(size=(9, DIM)).astype(np.float32), None, CUT, 1.0, 0)
    first, whole = codec.message(quantised, CUT, 2), codec.message(quantised, CUT, 5)
    request = refinement(planes=codec.further_planes(quantised, CUT, 2, 5))
    check_refinement(request)
    assert extended(first, request.planes) == whole
    # Three planes of 9 x 12 bits, each with tag and length.
    assert request.ByteSize() - refinement(planes=[]).ByteSize() == 3 * (2 + 14)


def test_asking_adds_the_same_to_every_reply() -> None:
    reply = build_reply(request_id=1, prediction=2, margin=0.5, exit=1, server_s=0.1, load=3.0)
    asking = pb.InferReply()
    asking.CopyFrom(reply)
    asking.wants_refinement, asking.session = True, 2**64 - 1
    assert asking.ByteSize() - reply.ByteSize() == ASK_BYTES


def test_an_answer_stands_from_the_margin_on() -> None:
    assert wants_more(0.49, 0.5)
    assert not wants_more(0.5, 0.5)
    assert not wants_more(0.0, 0.0)


def test_further_tokens_are_in_the_crc_too() -> None:
    request = refinement(planes=[], tokens=pb.Tokens(count=1, dims=8, bits=1, planes=[b"x"]))
    check_refinement(request)
    request.tokens.planes[0] = b"y"
    with pytest.raises(PayloadError, match="payload_crc"):
        check_refinement(request)


def test_more_planes_than_bits_can_be_are_refused_before_their_crc() -> None:
    further = refinement(planes=[], tokens=pb.Tokens(count=1, dims=8, bits=1, planes=[b""] * 9))
    for request, field in ((refinement(planes=[b""] * 9), "planes"), (further, "tokens.planes")):
        with pytest.raises(PayloadError, match="must be at most 8, not 9") as caught:
            check_refinement(request)
        assert caught.value.field == field


@pytest.mark.parametrize("field", ["request_id", "session", "payload_crc", "planes"])
def test_what_is_missing_is_named(field: str) -> None:
    request = refinement()
    request.ClearField(field)
    with pytest.raises(PayloadError) as caught:
        check_refinement(request)
    assert caught.value.field == field


@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("more", [0.5, 1.0])
def test_further_tokens_are_those_that_were_left_out(rest: bool, more: float) -> None:
    random = np.random.default_rng(1)
    arrays = {f"codec.{CUT}.rest": np.array([1], np.uint8)} if rest else {}
    codec = TokenCodec(arrays, dim=DIM, max_tokens=17)
    tokens, scores = random.normal(size=(17, DIM)).astype(np.float32), random.random(16).astype(np.float32)
    first, kept = codec.encode(tokens, scores, CUT, 0.25, 0, 8)
    later = codec.further(tokens, scores, CUT, 0.25, more, 0, 8)
    found, stands_for = refined(codec, first, refinement(planes=[], tokens=later), CUT)
    whole = found.tokens()
    assert found.rows == len(whole)
    left = 16 - round(16 * more)
    assert stands_for == (left if rest else 0)
    order = np.argsort(-scores, kind="stable")
    places = np.concatenate(([0], 1 + kept, 1 + np.sort(order[4 : round(16 * more)])))
    if rest and left:
        # It stays the mean of all twelve that were left out at first.
        np.testing.assert_allclose(whole[1], tokens[1 + order[4:]].mean(axis=0), atol=0.05)
        whole = np.delete(whole, 1, axis=0)
    np.testing.assert_allclose(whole, tokens[places], atol=0.05)


def test_further_tokens_are_as_wide_as_the_first() -> None:
    random = np.random.default_rng(2)
    codec = TokenCodec({}, dim=DIM, max_tokens=17)
    tokens, scores = random.normal(size=(17, DIM)).astype(np.float32), random.random(16).astype(np.float32)
    first, _ = codec.encode(tokens, scores, CUT, 0.25, 5, 3)
    later = codec.further(tokens, scores, CUT, 0.25, 0.5, 5, 3)
    assert (first.count, first.dims, first.bits) == (5, 5, 3)
    assert (later.count, later.dims, later.bits) == (4, 5, 3)


def test_what_makes_too_many_tokens_or_is_merged_is_refused() -> None:
    codec = TokenCodec({}, dim=DIM, max_tokens=17)
    x = np.random.default_rng(3).normal(size=(17, DIM)).astype(np.float32)
    first, _ = codec.encode(x[:15], None, CUT)
    for more, fits in ((2, True), (3, False)):
        later, _ = codec.encode(x[:more], None, CUT)
        if fits:
            assert refined(codec, first, refinement(planes=[], tokens=later), CUT)[0].tokens().shape == (
                17,
                DIM,
            )
        else:
            with pytest.raises(PayloadError, match=r"tokens\.count makes 18 tokens of at most 17"):
                refined(codec, first, refinement(planes=[], tokens=later), CUT)
    merged, _ = codec.encode(x[:1], None, CUT)
    merged.groups.samples, merged.groups.assignment = 1, b"\0"
    with pytest.raises(PayloadError, match=r"tokens\.groups"):
        refined(codec, first, refinement(planes=[], tokens=merged), CUT)
