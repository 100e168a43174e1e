"""The request: sizes that depend on shape only, a CRC that catches damage, the exit state's float16."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.codec.errors import PayloadError
from splitpoint.codec.halves import round_to_wire
from splitpoint.codec.refinement import REFINABLE_BYTES
from splitpoint.codec.requests import (
    build_reply,
    build_request,
    check_payload_crc,
    exit_state_message,
    payload_crc,
    planes_crc,
    read_exit_state,
)
from splitpoint.protos import PROTOCOL_VERSION
from splitpoint.protos import splitpoint_pb2 as pb

TOKENS = pb.Tokens(count=2, dims=8, bits=2, offset=b"abcd", scale=b"efgh", planes=[b"ij", b"kl"])


def request(**changes):
    fields = {
        "model_id": "0123456789abcdef",
        "request_id": 1,
        "cut": 2,
        "deadline_s": 0.25,
        "exit_margin": 0.5,
        "payload": TOKENS,
    }
    return build_request(**{**fields, **changes})


FLOATS = st.floats(0, 100, width=32)


@given(st.integers(0, 2**64 - 1), FLOATS, FLOATS, st.none() | FLOATS)
@settings(max_examples=60, deadline=None)
def test_a_requests_size_depends_on_its_shape_only(request_id, deadline_s, exit_margin, margin):
    sent = request(
        request_id=request_id, deadline_s=deadline_s, exit_margin=exit_margin, refine_margin=margin
    )
    assert sent.ByteSize() == request().ByteSize() + (0 if margin is None else REFINABLE_BYTES)
    assert (sent.request_id, sent.protocol_version) == (request_id, PROTOCOL_VERSION)
    assert sent.refine == sent.HasField("refine_margin") == (margin is not None)


@given(st.integers(0, 9), st.floats(0, 1, width=32), st.integers(0, 3), FLOATS, FLOATS)
@settings(max_examples=60, deadline=None)
def test_a_replys_size_depends_on_its_shape_only(prediction, margin, exit, server_s, load):
    reply = build_reply(
        request_id=0, prediction=prediction, margin=margin, exit=exit, server_s=server_s, load=load
    )
    zeros = build_reply(request_id=9, prediction=0, margin=0, exit=0, server_s=0, load=0)
    assert reply.ByteSize() == zeros.ByteSize()
    assert (reply.prediction, reply.margin, reply.exit) == (prediction, margin, exit)


def test_the_groups_of_a_merged_batch_are_in_the_reply():
    reply = build_reply(
        request_id=1,
        prediction=3,
        margin=0.5,
        exit=1,
        server_s=0.1,
        load=2,
        groups=[(4, 0.25, 0), (5, 0.75, 1)],
    )
    assert [(g.prediction, g.margin, g.exit) for g in reply.group] == [(4, 0.25, 0), (5, 0.75, 1)]


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (TOKENS, b"abcdefghijkl"),
        (pb.Tokens(offset=b"a", planes=[b"b"], groups=pb.AdcGroups(samples=2, assignment=b"cd")), b"abcd"),
        (pb.Image(format=pb.IMAGE_FORMAT_PNG, data=b"xyz"), b"xyz"),
    ],
)
def test_the_crc_is_over_the_bytes_fields_in_field_order(payload, data):
    sent = request(payload=payload)
    assert sent.payload_crc == zlib.crc32(data)
    check_payload_crc(sent)


def test_the_crc_of_symbols_is_over_what_noise_does_not_change():
    sent = request(payload=pb.Symbols(count=3, per_token=2, values=b"1234" * 6, snr_db=-2.5, code_crc=7))
    assert sent.payload_crc == zlib.crc32(struct.pack("<IIfI", 3, 2, -2.5, 7))
    sent.symbols.values = b"4321" * 6
    check_payload_crc(sent)
    for name, value in (("count", 2), ("per_token", 3), ("snr_db", 2.5), ("code_crc", 8)):
        damaged = pb.InferRequest.FromString(sent.SerializeToString())
        setattr(damaged.symbols, name, value)
        with pytest.raises(PayloadError, match="payload_crc"):
            check_payload_crc(damaged)


def test_the_crc_of_further_planes_is_over_planes_then_tokens():
    assert planes_crc([b"pq", b"r"], TOKENS) == zlib.crc32(b"pqrabcdefghijkl")
    assert planes_crc([b"pq"]) == zlib.crc32(b"pq")


def test_more_planes_than_bits_can_be_are_refused_before_their_crc():
    sent = request()
    sent.tokens.planes.extend([b""] * 7)
    with pytest.raises(PayloadError, match=r"tokens\.planes must be at most 8, not 9"):
        check_payload_crc(sent)


@pytest.mark.parametrize("field", ["offset", "scale"])
def test_a_flipped_bit_is_found(field):
    sent = request()
    data = bytearray(getattr(sent.tokens, field))
    data[1] ^= 4
    setattr(sent.tokens, field, bytes(data))
    with pytest.raises(PayloadError) as caught:
        check_payload_crc(sent)
    assert caught.value.field == "payload_crc"


def test_a_missing_crc_is_an_error_and_zero_is_not_missing():
    empty = pb.InferRequest(payload_crc=0)
    assert payload_crc(empty) == 0
    check_payload_crc(empty)
    with pytest.raises(PayloadError, match="payload_crc is missing"):
        check_payload_crc(pb.InferRequest())


def test_the_exit_state_arrives_as_the_sender_rounded_it():
    random = np.random.default_rng(0)
    u, logits = random.normal(size=16).astype(np.float32), 5 * random.normal(size=10).astype(np.float32)
    message = pb.ExitState.FromString(exit_state_message(u, logits, 2, 0.375).SerializeToString())
    read = read_exit_state(message, 16, 10, 3)
    assert (read.u == round_to_wire(u)).all()
    assert (read.logits == round_to_wire(logits)).all()
    assert (read.passed, read.margin) == (2, 0.375)
    np.testing.assert_allclose(read.u, u, rtol=2**-11, atol=2**-25)


def test_logits_beyond_float16_are_clipped_not_infinite():
    message = exit_state_message(np.array([1e9, -1e9]), np.array([7e4]), 1, 0.5)
    read = read_exit_state(message, 2, 1, 1)
    assert read.u.tolist() == [65504, -65504]
    assert read.logits.tolist() == [65504]


def test_an_exit_state_that_is_not_finite_is_not_sent():
    with pytest.raises(PayloadError, match="finite"):
        exit_state_message(np.array([np.nan]), np.zeros(2), 1, 0.5)


def exit_state(**changes):
    message = exit_state_message(np.zeros(4), np.zeros(3), 1, 0.5)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("exit_state.state", {"state": b"\0" * 7}),
        ("exit_state.state", {"state": b""}),
        ("exit_state.state", {"state": np.full(4, np.nan, "<f2").tobytes()}),
        ("exit_state.logits", {"logits": np.full(3, np.inf, "<f2").tobytes()}),
        ("exit_state.logits", {"logits": b"\0" * 600}),
        ("exit_state.exits_passed", {"exits_passed": 0}),
        ("exit_state.exits_passed", {"exits_passed": 3}),
        ("exit_state.exits_passed", {"exits_passed": 2**32 - 1}),
        ("exit_state.margin", {"margin": float("nan")}),
        ("exit_state.margin", {"margin": 1.5}),
        ("exit_state.margin", {"margin": -0.5}),
    ],
)
def test_a_wrong_exit_state_is_refused_by_field(field, changes):
    with pytest.raises(PayloadError) as caught:
        read_exit_state(exit_state(**changes), 4, 3, 2)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_an_exit_state_without_margin_is_refused():
    message = exit_state()
    message.ClearField("margin")
    with pytest.raises(PayloadError, match=r"exit_state\.margin"):
        read_exit_state(message, 4, 3, 2)
