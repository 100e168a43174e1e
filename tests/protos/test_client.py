"""The client against small servers written for each test."""

import asyncio
import gc
import time

import grpc
import pytest

from splitpoint.errors import RemoteError
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import (
    InferStream,
    LinkDown,
    Refused,
    ServiceClient,
    TimedOut,
    Timeouts,
)
from splitpoint.protos.device_name import DEVICE_KEY
from splitpoint.protos.options import MAX_MESSAGE_BYTES

from .scripted import Server, answer_each, reply, request


async def swallow(requests, context):
    async for _ in requests:
        pass


def large(number):
    """Much more than a stream takes before somebody reads it."""
    return pb.InferRequest(request_id=number, image=pb.Image(data=bytes(MAX_MESSAGE_BYTES // 2)))


def test_replies_find_their_requests_in_any_order():
    async def backwards(requests, context):
        numbers = []
        async for data in requests:
            numbers.append(pb.InferRequest.FromString(data).request_id)
            if len(numbers) == 40:
                for number in reversed(numbers):
                    await context.write(reply(number, prediction=number + 1))
                numbers = []

    async def main():
        async with Server(InferStream=backwards) as server, ServiceClient(server.address) as client:
            stream = client.stream()
            return await asyncio.gather(*(stream.infer(request(i), 5.0) for i in range(1, 81)))

    assert [found.prediction for found in asyncio.run(main())] == list(range(2, 82))


def test_a_request_times_out_alone_and_its_late_reply_is_dropped():
    async def slow_on_one(requests, context):
        async for data in requests:
            number = pb.InferRequest.FromString(data).request_id
            if number == 1:
                continue
            await context.write(reply(1))
            await context.write(reply(number, prediction=7))

    async def main():
        async with Server(InferStream=slow_on_one) as server, ServiceClient(server.address) as client:
            stream = client.stream()
            start = time.monotonic()
            with pytest.raises(TimedOut, match=r"within 0\.1 s"):
                await stream.infer(request(1), 0.1)
            assert 0.09 < time.monotonic() - start < 1.0
            return (await stream.infer(request(2), 5.0)).prediction

    assert asyncio.run(main()) == 7


def test_what_nobody_waits_for_any_more_is_not_sent():
    """Else a link that was too slow for a while would carry the past before the present."""
    came = []

    async def main():
        reads = asyncio.Event()

        async def late(requests, context):
            await reads.wait()
            async for data in requests:
                number = pb.InferRequest.FromString(data).request_id
                came.append(number)
                await context.write(reply(number))

        async with Server(InferStream=late) as server, ServiceClient(server.address) as client:
            stream = client.stream()
            await asyncio.gather(*(stream.infer(large(i), 0.5) for i in range(20)), return_exceptions=True)
            reads.set()
            await stream.infer(large(20), 5.0)

    asyncio.run(main())
    assert came[-1] == 20
    assert len(came) < 5


def test_a_broken_stream_fails_all_that_is_pending_and_the_next_request_opens_another():
    async def main():
        async with Server(InferStream=swallow) as first, ServiceClient(first.address) as client:
            stream = client.stream()
            pending = [asyncio.create_task(stream.infer(request(i), 30.0)) for i in range(1, 11)]
            await asyncio.sleep(0.2)
            start = time.monotonic()
            await first._server.stop(0)
            failures = await asyncio.gather(*pending, return_exceptions=True)
            assert time.monotonic() - start < 2.0
            assert [type(failure) for failure in failures] == [LinkDown] * 10
            with pytest.raises(LinkDown, match=first.address):
                await stream.infer(request(11), 30.0)
            async with Server(InferStream=answer_each, port=first.port):
                back = time.monotonic()
                while True:
                    try:
                        found = await stream.infer(request(12), 5.0)
                        break
                    except LinkDown:
                        assert time.monotonic() - back < 2.0
                        await asyncio.sleep(0.02)
                return found.prediction

    assert asyncio.run(main()) == 12


def test_an_error_in_a_reply_is_raised_and_the_stream_goes_on():
    async def refuse_odd(requests, context):
        async for data in requests:
            number = pb.InferRequest.FromString(data).request_id
            error = pb.Error(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="tokens.bits: 9")
            await context.write(reply(number, error=error if number % 2 else None))

    async def main():
        async with Server(InferStream=refuse_odd) as server, ServiceClient(server.address) as client:
            stream = client.stream()
            with pytest.raises(Refused, match=r"tokens\.bits: 9") as caught:
                await stream.infer(request(1), 5.0)
            assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
            await stream.infer(request(2), 5.0)

    asyncio.run(main())


def test_a_draining_server_gets_no_more_requests_on_that_stream_and_answers_the_rest():
    opened = []

    async def drain_after_three(requests, context):
        mine = []
        opened.append(mine)
        async for data in requests:
            mine.append(pb.InferRequest.FromString(data).request_id)
            if len(mine) == 3 and len(opened) == 1:
                error = pb.Error(code=grpc.StatusCode.UNAVAILABLE.value[0], message="draining")
                await context.write(pb.InferReply(error=error).SerializeToString())
            elif len(opened) > 1:
                await context.write(reply(mine[-1]))
        if mine[0] == 1:
            for number in mine:
                await context.write(reply(number))

    async def main():
        async with Server(InferStream=drain_after_three) as server, ServiceClient(server.address) as client:
            stream = client.stream()
            await asyncio.gather(*(stream.infer(request(i), 5.0) for i in range(1, 4)))
            await stream.infer(request(4), 5.0)

    asyncio.run(main())
    assert opened == [[1, 2, 3], [4]]


def test_a_stream_is_renewed_before_its_time_is_up():
    opened = []

    async def count(requests, context):
        opened.append(1)
        await answer_each(requests, context)

    async def main():
        timeouts = Timeouts(stream=0.5)
        async with (
            Server(InferStream=count) as server,
            ServiceClient(server.address, timeouts=timeouts) as client,
        ):
            stream = client.stream()
            for number in range(1, 61):
                await stream.infer(request(number), 5.0)
                await asyncio.sleep(0.02)

    asyncio.run(main())
    assert 2 <= len(opened) <= 5


def test_a_request_over_the_limit_is_refused_without_breaking_the_stream():
    async def main():
        async with Server(InferStream=answer_each) as server, ServiceClient(server.address) as client:
            stream = client.stream()
            other = asyncio.create_task(stream.infer(request(1), 5.0))
            large = pb.InferRequest(request_id=2, image=pb.Image(data=bytes(MAX_MESSAGE_BYTES)))
            with pytest.raises(Refused) as caught:
                await stream.infer(large, 5.0)
            assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            await other

    asyncio.run(main())


def test_a_reply_that_does_not_parse_breaks_the_stream_and_nothing_else():
    async def garbage(requests, context):
        async for data in requests:
            number = pb.InferRequest.FromString(data).request_id
            await context.write(b"\xff\xff\xff" if number == 1 else reply(number))

    async def main():
        async with Server(InferStream=garbage) as server, ServiceClient(server.address) as client:
            stream = client.stream()
            with pytest.raises(LinkDown, match="undecodable"):
                await stream.infer(request(1), 5.0)
            await stream.infer(request(2), 5.0)

    asyncio.run(main())


def test_an_opinion_that_does_not_parse_is_none():
    async def garbage(data, context):
        return b"\xff\xff\xff"

    async def main():
        async with Server(RunGates=garbage) as server, ServiceClient(server.address) as client:
            return [found async for found in client.run_gates(pb.RunGatesRequest(), 5.0)]

    with pytest.raises(LinkDown, match="does not parse"):
        asyncio.run(main())


def test_describe_refuses_another_protocol_version():
    async def describe(data, context):
        return pb.DescribeReply(protocol_version=9).SerializeToString()

    async def main():
        async with Server(Describe=describe) as server, ServiceClient(server.address) as client:
            with pytest.raises(RemoteError, match="protocol version 9, not 1"):
                await client.describe()

    asyncio.run(main())


@pytest.mark.parametrize(("method", "tries"), [("Infer", 3), ("Refine", 1), ("TrainStep", 1)])
def test_only_calls_that_change_nothing_are_tried_again(method, tries):
    seen = []

    async def unavailable(data, context):
        seen.append(1)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "try again")

    async def main():
        async with Server(**{method: unavailable}) as server, ServiceClient(server.address) as client:
            calls = {
                "Infer": lambda: client.infer(request(1)),
                "Refine": lambda: client.refine(pb.RefineRequest()),
                "TrainStep": lambda: client.train_step(pb.TrainStepRequest()),
            }
            with pytest.raises(LinkDown):
                await calls[method]()

    asyncio.run(main())
    assert len(seen) == tries


def test_every_call_names_its_device_and_has_a_deadline():
    seen = {}

    async def infer(data, context):
        seen.update(dict(context.invocation_metadata()))
        seen["left"] = context.time_remaining()
        return reply(1)

    async def main():
        async with Server(Infer=infer) as server, ServiceClient(server.address, device=3) as client:
            await client.infer(request(1))

    asyncio.run(main())
    assert seen[DEVICE_KEY] == "3"
    # gRPC's wire rounds a timeout of this size up to the next 10 ms.
    assert Timeouts().call - 1.0 < seen["left"] <= Timeouts().call + 0.01


def test_health_is_false_where_nobody_listens():
    async def main():
        async with Server() as server:
            address = server.address
        async with ServiceClient(address) as client:
            return await client.health(0.5)

    assert asyncio.run(main()) is False


def test_what_is_in_flight_when_a_client_is_closed_fails_with_link_down_and_cancels_nobody():
    async def hang(data, context):
        await asyncio.Future()

    async def gates(client):
        async for _ in client.run_gates(pb.RunGatesRequest(), 10.0):
            pass

    async def main():
        async with Server(Infer=hang, RunGates=hang, InferStream=swallow) as server:
            client = ServiceClient(server.address)
            begun = (client.infer(request(1), 10.0), gates(client), client.stream().infer(request(2), 10.0))
            tasks = [asyncio.create_task(call) for call in begun]
            cancelled = asyncio.create_task(client.infer(request(3), 10.0))
            await asyncio.sleep(0.2)
            cancelled.cancel()
            await client.close()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.wait((cancelled,))
            return results, cancelled.cancelled()

    results, cancelled = asyncio.run(main())
    assert [type(result) for result in results] == [LinkDown] * 3
    assert cancelled


class Dying:
    """A call that answers one request, says that its server drains, and dies while it is half-closed."""

    def __init__(self):
        self.left = [reply(1), pb.InferReply(error=pb.Error(code=14)).SerializeToString(), grpc.aio.EOF]

    async def write(self, data):
        pass

    async def read(self):
        return self.left.pop(0)

    async def done_writing(self):
        raise grpc.aio.InternalError('Failed "execute_batch"')

    async def code(self):
        return grpc.StatusCode.OK

    async def details(self):
        return ""

    def cancel(self):
        return True


def test_a_call_that_dies_while_it_is_half_closed_is_told_to_nobody():
    """Whoever was on it has heard of it; without that, asyncio would write about a task that failed."""
    told = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        stream = InferStream(lambda life_s: Dying(), "test:1", 60.0)
        for _ in range(3):
            await stream.infer(request(1), 5.0)
            await asyncio.sleep(0.01)
        await stream.close()
        gc.collect()

    asyncio.run(main())
    assert told == []
