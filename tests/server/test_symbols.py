"""Requests that come as symbols: what the validator makes of them, from the encoder to the sample."""

from __future__ import annotations

import asyncio
import math
import struct
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from splitpoint.codec.requests import payload_crc
from splitpoint.codec.symbols import JointLayers
from splitpoint.codec.tokens import TokenCodec
from splitpoint.device.encoder import Encoder
from splitpoint.device.head import advanced
from splitpoint.device.torch_head import TorchHead
from splitpoint.models.jscc import JointCode
from splitpoint.policies.decision import Decision
from splitpoint.protos import PROTOCOL_VERSION
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.charges import charged
from splitpoint.server.desk import TailDesk
from splitpoint.server.refusals import Rejected
from splitpoint.server.service import InferenceService
from splitpoint.server.tail import TorchTail
from splitpoint.server.validation import Validator

CUT = 2


@pytest.fixture(scope="module")
def codec(small: Any) -> TokenCodec:
    torch.manual_seed(2)
    code = JointCode(24, 12, 16)
    code.start_from(torch.randn(200, 24))
    arrays = {f"jscc.{CUT}.{name}": array for name, array in code.arrays().items()}
    return TokenCodec(arrays, dim=24, max_tokens=17)


@pytest.fixture
def request_(small: Any, codec: TokenCodec) -> pb.InferRequest:
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 1), dtype=np.uint8)
    state = advanced(TorchHead.of(small.network, small.card), image, None, CUT)
    decision = Decision(CUT, keep=0.5, symbols=0.25, exit_margin=0.5)
    made, kept = Encoder(small.card, codec).request(
        image, state, decision, request_id=4, deadline_s=1.0, snr_db=3.0
    )
    assert len(kept) == 8
    return made


def refusal(small: Any, codec: TokenCodec, request: pb.InferRequest) -> str:
    request.payload_crc = payload_crc(request)
    with pytest.raises(Rejected) as caught:
        Validator(small.card, codec).check(request)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value)


def test_symbols_become_a_sample_with_the_exit_state(
    small: Any, codec: TokenCodec, request_: pb.InferRequest
) -> None:
    symbols = request_.symbols
    assert (symbols.count, symbols.per_token, symbols.snr_db) == (9, 6, 3.0)
    checked = Validator(small.card, codec).check(request_)
    assert checked.group == (CUT, 9)
    assert checked.sample.values.shape == (9, 24)
    assert checked.sample.u is not None
    assert checked.sample.exit_margin == 0.5


def test_the_joint_codes_layers_run_when_the_tail_asks(
    small: Any, codec: TokenCodec, request_: pb.InferRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    monkeypatch.setattr(JointLayers, "decode", lambda *given: ran.append(given) or np.zeros((9, 24)))
    sample = Validator(small.card, codec).check(request_).sample
    assert not ran  # on the event loop
    assert sample.values.shape == sample.values.shape == (9, 24)
    assert len(ran) == 1


def test_symbols_are_channel_uses_and_no_bytes(request_: pb.InferRequest) -> None:
    nbytes, uses = charged(request_, request_.ByteSize())
    assert uses == 9 * 6
    assert nbytes == request_.ByteSize() - 4 * uses
    image = pb.InferRequest(image=pb.Image(data=b"abc"))
    assert charged(image, image.ByteSize()) == (image.ByteSize(), 0)
    torn = pb.InferRequest(symbols=pb.Symbols(count=2**31, per_token=2**31, values=b"12345"))
    assert charged(torn, 100) == (95, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("values", b"123"),
        ("values", struct.pack("<e", math.nan) * 108),
        ("count", 2**32 - 1),
        ("per_token", 13),
        ("snr_db", math.inf),
    ],
)
def test_hostile_symbols_are_refused_by_name(
    small: Any, codec: TokenCodec, request_: pb.InferRequest, field: str, value: object
) -> None:
    setattr(request_.symbols, field, value)
    assert refusal(small, codec, request_).startswith(f"symbols.{field}")


def test_symbols_without_a_code_or_before_the_first_block_are_refused(
    small: Any, codec: TokenCodec, request_: pb.InferRequest
) -> None:
    assert refusal(small, small.codec, request_).startswith("symbols: have no joint code at cut 2")
    request_.split = 0
    request_.ClearField("exit_state")
    assert refusal(small, codec, request_).startswith("symbols: split 0 takes image")


def test_a_server_says_that_it_takes_symbols(small: Any, codec: TokenCodec) -> None:
    async def described(own: TokenCodec) -> pb.DescribeReply:
        desk = TailDesk(small.card, own, TorchTail(small.network, small.card), max_batch=16, max_pending=256)
        service = InferenceService(desk)
        try:
            data = pb.DescribeRequest(protocol_version=PROTOCOL_VERSION).SerializeToString()
            return pb.DescribeReply.FromString(await service._describe(data, None))
        finally:
            await desk.close()

    for own, takes in ((codec, True), (small.codec, False)):
        assert (pb.PAYLOAD_KIND_SYMBOLS in asyncio.run(described(own)).payloads) is takes
