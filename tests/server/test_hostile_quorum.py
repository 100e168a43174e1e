"""Bad input to learners and to their coordinator: an answer or a clear refusal, never UNKNOWN or INTERNAL."""

import asyncio
import math
import random
from collections import Counter

import grpc
import numpy as np
import pytest

from splitpoint.codec.requests import exit_state_message, payload_crc
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import ServiceClient
from splitpoint.protos.options import MAX_MESSAGE_BYTES
from splitpoint.server.engine import Parts
from splitpoint.server.quorum_config import QuorumConfig

from .mutations import mutate_field, mutated_bytes, mutated_fields

METHOD = "/splitpoint.v1.SplitInference/"
CODE = grpc.StatusCode
GOOD = {CODE.OK, CODE.INVALID_ARGUMENT, CODE.RESOURCE_EXHAUSTED, CODE.FAILED_PRECONDITION}
COUNT = 800


def questions(small):
    rng = random.Random(7)
    seeds = [
        pb.RunGatesRequest(
            request=small.request(number, cut=0), learner="small", first_gate=number % 3, last_gate=2
        )
        for number in range(1, 13)
    ]
    for index in range(COUNT):
        message = pb.RunGatesRequest()
        message.CopyFrom(rng.choice(seeds))
        if index % 2:
            for _ in range(rng.randint(1, 3)):
                mutate_field(rng, message)
            if rng.random() < 0.67:
                message.request.payload_crc = payload_crc(message.request)
            yield message.SerializeToString(), message.request.deadline_s
        else:
            data = mutated_bytes(rng, message.SerializeToString())
            yield data, deadline_of(pb.RunGatesRequest, data)


def images(small):
    """Images with an early opinion of every exit."""
    rng, draws = random.Random(8), np.random.default_rng(8)
    seeds = []
    for number in range(1, 13):
        request = small.request(number, cut=0)
        u = draws.standard_normal(small.card.exit_state_dim).astype(np.float32)
        logits = draws.standard_normal(small.card.class_count).astype(np.float32)
        request.exit_state.CopyFrom(exit_state_message(u, logits, 1 + number % 3, 0.5))
        seeds.append(request)
    for index in range(COUNT):
        if index % 2:
            data = mutated_fields(rng, rng.choice(seeds))
        else:
            data = mutated_bytes(rng, rng.choice(seeds).SerializeToString())
        yield data, deadline_of(pb.InferRequest, data)


def deadline_of(kind, data):
    try:
        message = kind.FromString(data)
    except Exception:
        return math.nan
    return (message.request if kind is pb.RunGatesRequest else message).deadline_s


async def code_of(answer):
    try:
        await answer
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    return CODE.OK, ""


def parts_of(small):
    from splitpoint.server.learner import load_runner

    return {"small": load_runner(small.path)}


def test_mutated_questions_leave_the_learner_as_it_was(small, in_loop):
    codes = Counter()

    async def read(call):
        async for data in call:
            result = pb.GateResult.FromString(data)
            probabilities = np.frombuffer(result.probabilities, "<f2")
            assert probabilities.shape == (5,)
            assert np.isfinite(probabilities).all()

    async def main():
        parts = Parts(runners=parts_of(small))
        async with in_loop(parts) as address, grpc.aio.insecure_channel(address) as channel:
            method = channel.unary_stream(METHOD + "RunGates")
            for number, (data, deadline_s) in enumerate(questions(small)):
                code, details = await code_of(read(method(data, timeout=20)))
                late = code is CODE.DEADLINE_EXCEEDED and deadline_s < 0.5
                assert code in GOOD or late, f"message {number}: {code} {details}"
                codes[code] += 1
            good = pb.RunGatesRequest(request=small.request(1, cut=0), learner="small", last_gate=2)
            async with ServiceClient(address) as client:
                assert len([result async for result in client.run_gates(good)]) == 3

    asyncio.run(main())
    assert codes[CODE.INVALID_ARGUMENT] > 120
    assert codes[CODE.OK] > 20
    assert codes[CODE.FAILED_PRECONDITION] > 5


def test_mutated_images_with_opinions_leave_the_coordinator_as_it_was(small, scripted, in_loop, caplog):
    codes = Counter()
    places = [
        {"model": str(small.path), "on_device": True},
        {"model": "b"},
        {"model": "a", "address": ""},
    ]

    async def main():
        async with in_loop(Parts(runners={"a": scripted("a")})) as elsewhere:
            places[2]["address"] = elsewhere
            config = QuorumConfig(
                learners=places, model=str(small.path), parallel=True, patience_s=30.0, probe_s=30.0
            )
            parts = Parts(runners={"b": scripted("b")}, device=(small.card, small.codec))
            async with (
                in_loop(parts, quorum=config) as address,
                grpc.aio.insecure_channel(address) as channel,
            ):
                method = channel.unary_unary(METHOD + "Infer")
                for number, (data, deadline_s) in enumerate(images(small)):
                    code, details = await code_of(method(data, timeout=20))
                    late = code in (CODE.DEADLINE_EXCEEDED, CODE.UNAVAILABLE) and deadline_s < 0.5
                    assert code in GOOD or late, f"message {number}: {code} {details}"
                    codes[code] += 1
                async with ServiceClient(address) as client:
                    return await client.infer(small.request(1, cut=0))

    reply = asyncio.run(main())
    # No bad request made a learner suspect.
    assert reply.quorum.alive == 2
    assert codes[CODE.INVALID_ARGUMENT] > 120
    assert codes[CODE.OK] > 20
    assert not [record for record in caplog.records if record.name.startswith("splitpoint")]


@pytest.mark.parametrize("what", ["padded to the limit", "in ten thousand years"])
def test_a_request_that_no_learner_could_be_sent_is_answered_and_makes_none_suspect(
    small, quorum, what, caplog
):
    request = small.request(1, cut=0)
    if what == "in ten thousand years":
        request.deadline_s = 3e11
    data = request.SerializeToString()
    if what == "padded to the limit":
        # Field 15, which an InferRequest does not know: a byte of tag, four of length.
        data += pb.TrainStepRequest(classes=bytes(MAX_MESSAGE_BYTES - len(data) - 5)).SerializeToString()
        assert len(data) == MAX_MESSAGE_BYTES

    async def main():
        async with quorum() as client:
            # A stream carries no deadline of its own.
            stream = client.channel.stream_stream(METHOD + "InferStream")()
            await stream.write(data)
            return pb.InferReply.FromString(await asyncio.wait_for(stream.read(), 20.0))

    reply = asyncio.run(main())
    assert not reply.HasField("error"), reply
    assert reply.quorum.alive == 3
    assert not [record for record in caplog.records if record.name.startswith("splitpoint")]
