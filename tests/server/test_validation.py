import math
import struct

import grpc
import numpy as np
import pytest

from splitpoint.codec.requests import payload_crc
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.server.refusals import Rejected
from splitpoint.server.validation import Validator

CODE = grpc.StatusCode


def refusal(small, request, *, crc=True):
    if crc:
        request.payload_crc = payload_crc(request)
    with pytest.raises(Rejected) as caught:
        Validator(small.card, small.codec).check(request)
    return caught.value


def test_a_good_request_becomes_a_sample(small):
    checked = Validator(small.card, small.codec).check(small.request(cut=2, keep=0.5, margin=0.5))
    assert checked.group == (2, 9)
    assert checked.sample.values.shape == (9, 24)
    assert checked.sample.values.dtype == np.float32
    assert checked.sample.exit_margin == 0.5
    assert checked.deadline_s == 20.0
    assert checked.decode is None


def test_an_image_waits_to_be_decoded(small):
    checked = Validator(small.card, small.codec).check(small.request(cut=0))
    assert checked.group == (0, 17)
    assert not checked.sample.values.size
    (sample,) = checked.decoded()
    assert sample.values.shape == (16, 16, 1)


def test_another_protocol_or_model_is_refused_with_what_the_server_has(small):
    request = small.request()
    request.protocol_version = 7
    found = refusal(small, request)
    assert (found.code, str(found)) == (CODE.FAILED_PRECONDITION, "protocol_version: 7, this server speaks 1")
    request = small.request()
    request.model_id = "x" * 1000
    found = refusal(small, request)
    assert found.code is CODE.FAILED_PRECONDITION
    assert str(found).startswith("model_id: 'xxx")
    assert f"this server runs '{small.card.id}' (small)" in str(found)
    assert len(str(found)) < 200


HUGE = 2**32 - 1
NAN, INF = struct.pack("<e", math.nan), struct.pack("<e", math.inf)


def edits():
    """(field that the error names, what is wrong with an else good request at cut 2)."""

    def setting(path, value):
        def edit(request):
            *way, last = path.split(".")
            for name in way:
                request = getattr(request, name)
            setattr(request, last, value)

        return path, edit

    yield setting("split", 4)
    yield setting("split", HUGE)
    yield from (setting("deadline_s", value) for value in (0.0, -1.0, math.nan, math.inf, 1e-30))
    yield from (setting("exit_margin", value) for value in (math.nan, math.inf, -math.inf))
    yield from (setting("tokens.count", value) for value in (0, 18, 2**31, HUGE))
    yield from (setting("tokens.dims", value) for value in (0, 25, 2**31, HUGE))
    yield from (setting("tokens.bits", value) for value in (0, 9, HUGE))
    yield from (setting("tokens.scale", value * 17) for value in (NAN, INF, b"\0\xbc", b"", b"\0"))
    yield from (setting("tokens.offset", value * 17) for value in (NAN, INF, b""))
    yield setting("tokens.coder", 1)
    yield setting("tokens.coder", 77)
    yield from (setting("exit_state.exits_passed", value) for value in (1, 3, HUGE))
    yield from (setting("exit_state.state", value) for value in (b"", NAN * 8, bytes(18)))
    yield from (setting("exit_state.logits", value) for value in (b"", INF * 5, bytes(8)))
    yield from (setting("exit_state.margin", value) for value in (math.nan, -0.1, 1.1))
    yield "tokens.planes", lambda request: request.tokens.planes.pop()
    yield "tokens.planes", lambda request: request.tokens.planes.__setitem__(3, b"short")
    yield "tokens.groups", lambda request: request.tokens.groups.SetInParent()
    yield "request_id", lambda request: request.ClearField("request_id")
    yield "payload", lambda request: request.ClearField("tokens")
    yield "symbols", lambda request: request.symbols.SetInParent()
    yield "image", lambda request: request.image.SetInParent()
    yield "tokens", lambda request: setattr(request, "split", 0)


@pytest.mark.parametrize(("field", "edit"), list(edits()))
def test_what_does_not_hold_is_an_invalid_argument_that_names_its_field(small, field, edit):
    request = small.request(cut=2)
    edit(request)
    found = refusal(small, request)
    assert found.code is CODE.INVALID_ARGUMENT
    assert str(found).startswith(field)


def test_a_wrong_or_missing_crc_is_refused(small):
    request = small.request()
    request.payload_crc ^= 1
    assert str(refusal(small, request, crc=False)).startswith("payload_crc")
    request.ClearField("payload_crc")
    assert str(refusal(small, request, crc=False)).startswith("payload_crc")


@pytest.mark.parametrize("part", ["state", "logits"])
def test_a_state_before_any_exit_must_be_empty(small, part):
    request = small.request(cut=0)
    setattr(request.exit_state, part, bytes(16))
    assert str(refusal(small, request)).startswith("exit_state.state")


def test_only_an_image_may_come_with_the_state_of_any_exit(small):
    validator = Validator(small.card, small.codec, opinions=True)
    state = small.request(cut=2).exit_state
    image = small.request(cut=0)
    image.exit_state.CopyFrom(state)
    assert validator.check(image).sample.u is not None
    tokens = small.request(cut=2)
    tokens.exit_state.exits_passed -= 1
    with pytest.raises(Rejected, match=r"^exit_state\.exits_passed: must be"):
        validator.check(tokens)


def test_a_request_may_leave_out_deadline_and_margin(small):
    request = small.request()
    request.ClearField("deadline_s")
    request.ClearField("exit_margin")
    checked = Validator(small.card, small.codec).check(request)
    assert checked.deadline_s is None
    assert checked.sample.exit_margin == math.inf


def test_an_empty_message_is_refused(small):
    assert refusal(small, pb.InferRequest(), crc=False).code is CODE.FAILED_PRECONDITION
