"""Bad input to a running server: every message gets an answer or a clear refusal, and the server stays as it was."""

import asyncio
import math
import os
import random
import struct
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest

from splitpoint.codec.image import encode_image
from splitpoint.codec.requests import payload_crc
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import ServiceClient
from splitpoint.protos.options import MAX_MESSAGE_BYTES

from .mutations import mutated_bytes, mutated_fields

METHOD = "/splitpoint.v1.SplitInference/"
CODE = grpc.StatusCode
GOOD = {CODE.OK, CODE.INVALID_ARGUMENT, CODE.RESOURCE_EXHAUSTED, CODE.FAILED_PRECONDITION}


def corpus(small, count):
    rng = random.Random(20261121)
    seeds = [
        small.request(i, cut=i % 4, keep=(0.5, 1.0)[i % 2], bits=1 + i % 8, margin=0.2) for i in range(24)
    ]
    wholes = [request.SerializeToString() for request in seeds]
    for index in range(count):
        pick = rng.randrange(len(seeds))
        yield mutated_fields(rng, seeds[pick]) if index % 2 else mutated_bytes(rng, wholes[pick])


def oversized(small, count, dims):
    """Shapes whose product overflows 32 or 64 bits, on an else good request."""
    request = small.request(1, cut=2)
    request.tokens.count, request.tokens.dims = count, dims
    request.payload_crc = payload_crc(request)
    return request.SerializeToString()


async def send(call, data):
    """Status and reply of one unary Infer with these very bytes."""
    try:
        reply = pb.InferReply.FromString(await call(data, timeout=20))
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    assert 0 <= reply.prediction < 5
    assert 0.0 <= reply.margin <= 1.0
    assert reply.exit in (0, 1, 2)
    return CODE.OK, reply


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def deadline_of(data):
    try:
        return pb.InferRequest.FromString(data).deadline_s
    except Exception:
        return math.nan


def allowed(code, data):
    # A deadline of some milliseconds may honestly be missed.
    return code in GOOD or (code is CODE.DEADLINE_EXCEEDED and deadline_of(data) < 0.5)


def test_two_thousand_mutated_messages_leave_the_server_as_it_was(small, start):
    server = start()
    codes = Counter()

    async def main():
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = channel.unary_unary(METHOD + "Infer")
            grown = None
            for number, data in enumerate(corpus(small, 2000)):
                if number == 500:
                    grown = resident_bytes(server.popen.pid)
                code, found = await send(call, data)
                assert allowed(code, data), f"message {number}: {code} {found}"
                codes[code] += 1
            grown = resident_bytes(server.popen.pid) - grown
        async with ServiceClient(server.address) as client:
            await client.infer(small.request(1))
            assert await client.health()
        return grown

    grown = asyncio.run(main())
    assert grown < 5e6, f"{grown / 1e6:.1f} MB more"
    assert codes[CODE.INVALID_ARGUMENT] > 500
    assert codes[CODE.OK] > 50
    assert codes[CODE.FAILED_PRECONDITION] > 20
    assert server.log() == ""


def test_the_same_on_one_stream_that_goes_on(small, served):
    messages = list(corpus(small, 600))

    async def main():
        async with grpc.aio.insecure_channel(served.address) as channel:
            stream = channel.stream_stream(METHOD + "InferStream")()
            for data in messages:
                await stream.write(data)
                reply = pb.InferReply.FromString(await stream.read())
                code = next(code for code in CODE if code.value[0] == reply.error.code)
                assert allowed(code, data), f"{code}: {reply.error.message}"
            await stream.write(small.request(77).SerializeToString())
            return pb.InferReply.FromString(await stream.read())

    reply = asyncio.run(main())
    assert reply.request_id == 77
    assert not reply.HasField("error")


@pytest.mark.parametrize(
    ("count", "dims", "field"),
    [
        (2**31, 2**31, "tokens.count"),
        (2**32 - 1, 24, "tokens.count"),
        (17, 2**32 - 1, "tokens.dims"),
        (16, 2**28, "tokens.dims"),
    ],
)
def test_shapes_whose_product_overflows_are_refused_by_name(small, served, count, dims, field):
    async def main():
        async with grpc.aio.insecure_channel(served.address) as channel:
            return await send(channel.unary_unary(METHOD + "Infer"), oversized(small, count, dims))

    code, details = asyncio.run(main())
    assert code is CODE.INVALID_ARGUMENT
    assert details.startswith(field)


@pytest.mark.parametrize("method", ["Infer", "Describe"])
@pytest.mark.parametrize("data", [b"\xff", b"\x08", b"\x3a\xff\xff\xff\xff\x7f", bytes([0x0B] * 300)])
def test_an_undecodable_message_is_an_invalid_argument(served, method, data):
    async def main():
        async with grpc.aio.insecure_channel(served.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(METHOD + method)(data, timeout=5)
            return caught.value

    error = asyncio.run(main())
    assert error.code() is CODE.INVALID_ARGUMENT
    assert "not a" in error.details()


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", b"\x0a\x01\xff"])
def test_an_undecodable_health_check_is_an_invalid_argument(served, data):
    async def main():
        async with grpc.aio.insecure_channel(served.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as check:
                await channel.unary_unary("/grpc.health.v1.Health/Check")(data, timeout=5)
            with pytest.raises(grpc.aio.AioRpcError) as watch:
                await channel.unary_stream("/grpc.health.v1.Health/Watch")(data, timeout=5).read()
            return check.value, watch.value

    for error in asyncio.run(main()):
        assert error.code() is CODE.INVALID_ARGUMENT
        assert error.details() == "not a HealthCheckRequest message"


def test_a_body_over_the_limit_is_refused(small, served):
    async def main():
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(served.address, options=options) as channel:
            call = channel.unary_unary(METHOD + "Infer")
            found = await send(call, bytes(MAX_MESSAGE_BYTES + 1))
            return found, await send(call, small.request(1).SerializeToString())

    (code, _), (after, _) = asyncio.run(main())
    assert code is CODE.RESOURCE_EXHAUSTED
    assert after is CODE.OK


def test_more_requests_than_the_queue_holds_are_refused_and_the_others_answered(small, start):
    server = start(max_pending=8, pace={"base_s": 0.05, "macs_per_s": 1e12})

    async def main():
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = channel.unary_unary(METHOD + "Infer")
            data = [small.request(i, cut=3).SerializeToString() for i in range(40)]
            return Counter(code for code, _ in await asyncio.gather(*(send(call, one) for one in data)))

    codes = asyncio.run(main())
    assert set(codes) == {CODE.OK, CODE.RESOURCE_EXHAUSTED}
    assert codes[CODE.OK] >= 8


def test_clients_that_vanish_in_mid_request_leave_nothing_behind(small, start):
    server = start(pace={"base_s": 0.02, "macs_per_s": 1e12}, max_pending=64)

    async def main():
        for turn in range(20):
            async with grpc.aio.insecure_channel(server.address) as channel:
                stream = channel.stream_stream(METHOD + "InferStream")()
                for number in range(30):
                    await stream.write(small.request(number + 1, seed=1).SerializeToString())
                if turn % 2:
                    stream.cancel()
        async with ServiceClient(server.address) as client:
            reply = await client.infer(small.request(1), 20.0)
            return reply.load

    assert asyncio.run(main()) == 0
    assert "Traceback" not in server.log()


def test_an_image_with_damaged_metadata_is_served_and_not_written_about(small, start):
    server = start()
    plain = encode_image(np.zeros((16, 16, 1), np.uint8), "jpeg")
    # Tags whose values lie behind the end of the file.
    tags = b"".join(struct.pack("<HHII", tag, 2, 1_000_000, 4096) for tag in range(5000))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5000) + tags + bytes(4)
    request = small.request(1, cut=0)
    start_of_image, jfif, rest = plain.data[:2], plain.data[2:20], plain.data[20:]
    assert jfif.startswith(b"\xff\xe0\0\x10JFIF")
    data = start_of_image + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + rest
    request.image.CopyFrom(pb.Image(format=plain.format, data=data))
    request.payload_crc = payload_crc(request)

    async def main():
        async with grpc.aio.insecure_channel(server.address) as channel:
            return await send(channel.unary_unary(METHOD + "Infer"), request.SerializeToString())

    code, found = asyncio.run(main())
    assert (code, server.log()) == (CODE.OK, ""), found
