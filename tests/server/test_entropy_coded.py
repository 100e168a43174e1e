"""Entropy-coded payloads on the server: decoded beside the event loop, and refused by name where they are not right."""

import asyncio
import threading

import grpc
import numpy as np
import pytest

from splitpoint.codec import entropy
from splitpoint.codec.adc import merge
from splitpoint.codec.errors import PayloadError
from splitpoint.codec.refinement import build_refinement
from splitpoint.codec.tokens import TokenCodec
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.server.desk import TailDesk
from splitpoint.server.refusals import Rejected
from splitpoint.server.tail import TorchTail
from splitpoint.server.validation import Validator

CUT = 2


def tokens_of(small, number):
    """Tokens whose later dims are small, as behind a trained basis: their planes are worth coding."""
    draws = np.random.default_rng(number).standard_normal((small.card.patch_tokens + 1, small.card.dim))
    return (draws * 0.8 ** np.arange(small.card.dim)).astype(np.float32)


@pytest.fixture(scope="module")
def codec(small):
    dim = small.card.dim
    plain = TokenCodec({}, dim=dim)
    samples = [plain.quantised(tokens_of(small, number), None, CUT, 1.0, 0)[0] for number in range(30)]
    return TokenCodec({f"codec.{CUT}.tables": entropy.fit_tables(samples, dim)}, dim=dim, max_tokens=17)


def coded(small, codec, number=1, bits=4):
    payload = codec.encode(tokens_of(small, number), None, CUT, bits=bits, coder=pb.CODER_ANS)[0]
    assert payload.coder == pb.CODER_ANS
    return payload


def merged(small, codec):
    tokens = np.stack([tokens_of(small, number) for number in range(6)])
    attention = np.random.default_rng(0).random((6, small.card.patch_tokens)).astype(np.float32)
    payload = codec.encode_merged(merge(tokens, attention, 0.5, 0.6, seed=0), CUT, bits=4, coder=pb.CODER_ANS)
    assert payload.coder == pb.CODER_ANS
    return payload


def spoilt(payload):
    """Of the right length, and not what the coder writes."""
    bad = pb.Tokens()
    bad.CopyFrom(payload)
    bad.planes[0] = bytes(byte ^ 0x5A for byte in bad.planes[0])
    return bad


def answers(small, codec, script):
    """`script(ask)` on an event loop; `ask(admit, message)` gives what a desk made of it: (job, outcome)."""

    async def main():
        desk = TailDesk(small.card, codec, TorchTail(small.network, small.card), max_batch=16, max_pending=99)

        async def ask(message, admit=None):
            told = asyncio.get_running_loop().create_future()
            job = (admit or desk.admit)(message.SerializeToString(), lambda *end: told.set_result(end), None)
            job_told, outcome = await asyncio.wait_for(told, 10.0)
            assert job_told is job
            return job, outcome

        try:
            return await script(desk, ask)
        finally:
            await desk.close()

    return asyncio.run(main())


@pytest.fixture
def threads(monkeypatch):
    """Names of the threads that decoded planes."""
    found, decode = set(), entropy.decode_planes

    def noted(*arguments):
        found.add(threading.current_thread().name)
        return decode(*arguments)

    monkeypatch.setattr("splitpoint.codec.decoding.decode_planes", noted)
    return found


def test_planes_are_decoded_off_the_event_loop(small, codec, threads):
    first = coded(small, codec, bits=2)

    async def script(desk, ask):
        seen = [await ask(small.carrying(coded(small, codec)))]
        seen.append(await ask(small.carrying(merged(small, codec), groups=3)))
        job, answer = await ask(small.carrying(first, refine_margin=1.1))
        asking = desk.reply(job, answer)
        quantised = codec.quantised(tokens_of(small, 1), None, CUT, 1.0, 0)[0]
        planes = codec.further_planes(quantised, CUT, 2, 4, pb.CODER_ANS)
        refinement = build_refinement(request_id=1, session=asking.session, planes=planes)
        seen.append(await ask(refinement, desk.admit_more))
        return [answer for _, answer in seen]

    whole, _, refined = answers(small, codec, script)
    assert (refined.prediction, refined.margin) == (whole.prediction, pytest.approx(whole.margin, abs=1e-6))
    assert len(threads) == 1
    assert all(name.startswith("decode") for name in threads)


@pytest.mark.parametrize("make", [coded, merged])
def test_planes_that_do_not_decode_are_refused_by_name(small, codec, make):
    payload = spoilt(make(small, codec))

    async def script(desk, ask):
        _, refusal = await ask(small.carrying(payload, groups=3 if make is merged else 1))
        assert desk.batcher.load == 0
        return refusal

    refusal = answers(small, codec, script)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refusal).startswith("tokens.planes: ")


def test_hostile_planes_are_refused_by_name(small, codec):
    good = coded(small, codec)
    validator, random = Validator(small.card, codec), np.random.default_rng(0)
    validator.check(small.carrying(good)).decoded()
    refused = set()
    for turn in range(400):
        bad = pb.Tokens()
        bad.CopyFrom(good)
        place = turn % 4
        bad.planes[place] = random.bytes(
            (len(good.planes[place]), 4 * random.integers(0, 13), 3, 52)[turn // 4 % 4]
        )
        if turn % 7 == 0:
            bad.tables_crc ^= 1 << turn % 32
        try:
            validator.check(small.carrying(bad)).decoded()
        except (Rejected, PayloadError) as error:
            refused.add(str(error).split(":")[0].split(" ")[0])
    assert refused == {"tokens.planes", "tokens.tables_crc"}
