"""RunGates over gRPC: opinions, what is kept between calls, what is refused, and that cancelling stops the work."""

import asyncio
import json
import time

import grpc
import numpy as np
import pytest

from splitpoint.codec.image import decode_image
from splitpoint.errors import RemoteError
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import Refused, ServiceClient
from splitpoint.server.engine import Engine, Parts

CODE = grpc.StatusCode


def question(small, number=1, learner="a", first=0, last=2, **changes):
    request = small.request(number, cut=0)
    for name, value in changes.items():
        setattr(request, name, value)
    return pb.RunGatesRequest(request=request, learner=learner, first_gate=first, last_gate=last)


async def opinions(client, message, timeout=10.0):
    return [result async for result in client.run_gates(message, timeout)]


def halves(result):
    return np.frombuffer(result.probabilities, "<f2")


def test_a_network_s_opinions_over_the_wire_are_its_own(small, in_loop):
    from splitpoint.models.learner import load_learner
    from splitpoint.server.learner import load_runner

    learner = load_learner(small.path)

    async def main():
        parts = Parts(runners={"small": load_runner(small.path)})
        async with in_loop(parts) as address, ServiceClient(address) as client:
            [card] = (await client.describe()).learners
            assert (card.name, card.id, card.classes) == ("small", small.card.id, 5)
            assert tuple(card.gate_macs) == learner.gate_macs
            # All at once, so that the server batches them.
            asked = (opinions(client, question(small, number, "small")) for number in range(1, 9))
            return await asyncio.gather(*asked)

    for number, found in enumerate(asyncio.run(main()), 1):
        image = decode_image(small.request(number, cut=0).image, (16, 16, 1))
        expected = learner.opinions(image[None])[0]
        assert [result.gate for result in found] == [0, 1, 2]
        assert [result.macs for result in found] == list(learner.gate_macs)
        assert {result.request_id for result in found} == {number}
        for result, probabilities in zip(found, expected, strict=True):
            # Batches change the sixth digit of a logit: a float16 may round the other way.
            np.testing.assert_allclose(halves(result), probabilities, atol=1e-3)
            assert 0.0 < result.server_s < 10.0


def test_gate_by_gate_is_the_same_and_nothing_runs_twice(small, scripted, in_loop):
    learner = scripted("a")

    async def main():
        async with in_loop(Parts(runners={"a": learner})) as address, ServiceClient(address) as client:
            whole = await opinions(client, question(small, 1))
            single = [
                result
                for gate in range(3)
                for result in await opinions(client, question(small, 2, first=gate, last=gate))
            ]
            return whole, single

    whole, single = asyncio.run(main())
    assert [result.macs for result in single] == [result.macs for result in whole] == [100, 200, 300]
    assert learner.batches == [(0, 1), (1, 1), (2, 1)] * 2


def test_what_is_not_kept_is_computed_again_from_the_payload(small, scripted, in_loop):
    learner = scripted("a")

    async def main():
        async with in_loop(Parts(runners={"a": learner})) as address, ServiceClient(address) as client:
            [late] = await opinions(client, question(small, 1, first=2, last=2))
            [first] = await opinions(client, question(small, 2, last=0))
            # Another input under the same number is another request.
            other = question(small, 3, first=1, last=1)
            other.request.request_id = 2
            [second] = await opinions(client, other)
            return late, first, second

    late, first, second = asyncio.run(main())
    assert (late.macs, first.macs, second.macs) == (600, 100, 300)


WRONG = {
    "learner": lambda m: setattr(m, "learner", "nobody"),
    "last_gate": lambda m: setattr(m, "last_gate", 3),
    "first_gate": lambda m: (setattr(m, "first_gate", 2), setattr(m, "last_gate", 1)),
    "request.request_id": lambda m: m.request.ClearField("request_id"),
    "request.image": lambda m: setattr(m.request.image, "format", 9),
    "request.payload": lambda m: m.request.ClearField("payload"),
    "request.tokens": lambda m: m.request.tokens.SetInParent(),
    "request.split": lambda m: setattr(m.request, "split", 1),
    "request.payload_crc": lambda m: setattr(m.request, "payload_crc", 1),
    "request.exit_state": lambda m: m.request.exit_state.SetInParent(),
    "request.refine": lambda m: setattr(m.request, "refine", True),
    "deadline_s": lambda m: setattr(m.request, "deadline_s", float("nan")),
}


@pytest.mark.parametrize("field", sorted(WRONG))
def test_what_does_not_hold_is_named(small, scripted, in_loop, field):
    message = question(small)
    WRONG[field](message)

    async def main():
        async with in_loop(Parts(runners={"a": scripted("a")})) as address, ServiceClient(address) as client:
            with pytest.raises(Refused) as caught:
                await opinions(client, message)
            assert len(await opinions(client, question(small))) == 3
            return caught.value

    error = asyncio.run(main())
    assert error.code is CODE.INVALID_ARGUMENT
    assert f"(INVALID_ARGUMENT): {field}" in str(error)


def test_other_versions_full_queues_and_passed_deadlines_are_refused(small, scripted, in_loop):
    slow = scripted("a", pause_s=0.1)

    async def main():
        parts = Parts(runners={"a": slow})
        async with in_loop(parts, max_pending=2) as address, ServiceClient(address) as client:
            with pytest.raises(Refused, match="protocol_version") as old:
                await opinions(client, question(small, protocol_version=9))
            assert old.value.code is CODE.FAILED_PRECONDITION
            with pytest.raises(RemoteError, match="deadline_s: passed"):
                await opinions(client, question(small, deadline_s=0.05))
            both = [asyncio.create_task(opinions(client, question(small, n))) for n in (1, 2)]
            await asyncio.sleep(0.1)
            with pytest.raises(Refused, match="queue full") as full:
                await opinions(client, question(small, 3))
            assert full.value.code is CODE.RESOURCE_EXHAUSTED
            assert [len(found) for found in await asyncio.gather(*both)] == [3, 3]

    asyncio.run(main())


def test_a_server_of_learners_serves_nothing_else_and_a_normal_one_no_learners(small, scripted, in_loop):
    from splitpoint.server.tail import TorchTail

    normal = Parts(Engine.of(small.card, TorchTail(small.network, small.card)))

    async def main():
        async with in_loop(Parts(runners={"a": scripted("a")})) as address, ServiceClient(address) as client:
            assert await client.health()
            assert (await client.describe()).model.id == ""
            for call in (client.infer(small.request(1)), client.stream().infer(small.request(1), 5.0)):
                with pytest.raises(Refused, match="not served here") as caught:
                    await call
                assert caught.value.code is CODE.UNIMPLEMENTED
        async with in_loop(normal) as address, ServiceClient(address) as client:
            with pytest.raises(Refused, match="serve --learner") as caught:
                await opinions(client, question(small))
            assert caught.value.code is CODE.UNIMPLEMENTED
        both = Parts(normal.engine, {"a": scripted("a")})
        async with in_loop(both) as address, ServiceClient(address) as client:
            assert (await client.infer(small.request(1))).request_id == 1
            assert len(await opinions(client, question(small))) == 3

    asyncio.run(main())


def test_cancelled_work_stops_at_the_next_gate(small, scripted, in_loop, tmp_path):
    """Cancelled as soon as the first gate is heard: of twelve gates the one in work may still end, no more."""
    log = tmp_path / "gates.jsonl"
    learner = scripted("a", gates=12, pause_s=0.02)
    cancelled_s = {}

    async def one(client, number):
        results = client.run_gates(question(small, number, last=11), 10.0)
        async for _ in results:
            break
        cancelled_s[number] = time.monotonic()
        await results.aclose()

    async def main():
        parts = Parts(runners={"a": learner})
        async with in_loop(parts, gate_log=log) as address, ServiceClient(address) as client:
            for number in range(1, 11):
                await one(client, number)
            await asyncio.sleep(0.3)

    asyncio.run(main())
    ran = [json.loads(line) for line in log.read_text().splitlines()]
    after = [sum(e["request"] == n and e["begun_s"] > cancelled_s[n] for e in ran) for n in cancelled_s]
    assert len(after) == 10
    # What was told to the server while a gate was in work cannot be heard by it: the next may have begun.
    assert sum(count <= 1 for count in after) >= 9
    assert len(ran) < 50


def test_a_server_that_drains_finishes_what_it_runs_and_takes_no_more(small, scripted, in_loop):
    async def main():
        context = in_loop(Parts(runners={"a": scripted("a", pause_s=0.15)}), grace_s=5.0)
        address = await context.__aenter__()
        async with ServiceClient(address) as client:
            running = asyncio.create_task(opinions(client, question(small, 1)))
            await asyncio.sleep(0.1)
            ending = asyncio.create_task(context.__aexit__(None, None, None))
            await asyncio.sleep(0.05)
            assert not await client.health()
            with pytest.raises(RemoteError, match="shutting down"):
                await opinions(client, question(small, 2))
            assert len(await running) == 3
            await ending

    asyncio.run(main())
