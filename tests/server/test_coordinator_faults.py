"""A coordinator whose learners are late or gone, whose queue is full, and whose requests are bad."""

import asyncio
import socket
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from splitpoint.device.client import Client
from splitpoint.errors import RemoteError
from splitpoint.policies.decision import Decision
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import LinkDown, Refused, ServiceClient
from splitpoint.server.engine import Parts
from splitpoint.server.quorum_config import QuorumConfig

from .coordinators import CODE, NAMES, with_state

CERTS = Path(__file__).parent.parent / "protos" / "certs"


def test_without_a_learner_the_device_is_told_at_once_and_the_server_says_that_it_does_not_serve(
    small, quorum
):
    running = quorum(probe_s=0.05)

    async def main():
        async with running as client:
            assert await client.health()
            await running.elsewhere.aclose()
            since = time.monotonic()
            with pytest.raises(LinkDown, match="no learner gave an opinion"):
                await client.stream().infer(small.request(1, cut=0, deadline_s=5.0), 5.0)
            took_s = time.monotonic() - since
            while await client.health():
                assert time.monotonic() - since < 10.0
                await asyncio.sleep(0.02)
            return took_s

    assert asyncio.run(main()) < 1.0


@pytest.mark.parametrize("parallel", [False, True])
def test_a_learner_that_is_too_slow_is_suspected_then_asked_again(small, scripted, quorum, parallel):
    agreeing = lambda image, gate: scripted.leaning(1, 0.9)  # noqa: E731
    slow = scripted("slow", agreeing, pause_s=2.0)
    learners = [slow, scripted("b", agreeing), scripted("c", agreeing)]
    running = quorum(learners=learners, parallel=parallel, patience_s=0.25, probe_s=2.0)

    async def main():
        async with running as client:
            first = await client.infer(small.request(1, cut=0))
            second = await client.infer(small.request(2, cut=0))
            slow._pause_s = 0.0
            end = time.monotonic() + 10.0
            while time.monotonic() < end:
                last = await client.infer(small.request(3, cut=0))
                if last.quorum.alive == 3:
                    break
                await asyncio.sleep(0.02)
            return first, second, last

    first, second, last = asyncio.run(main())
    assert (first.quorum.alive, first.quorum.votes, first.prediction) == (3, 2, 1)
    # It had to be waited for once.
    assert 0.25 <= first.server_s < 2.0
    assert second.quorum.alive == 2
    assert second.server_s < first.server_s
    assert last.quorum.alive == 3


def test_one_that_was_late_is_still_asked_where_nobody_else_is_left(small, scripted, quorum):
    learner = scripted("a", pause_s=0.4)
    running = quorum(learners=[learner], patience_s=0.2)

    async def main():
        async with running as client:
            first = await client.stream().infer(small.request(1, cut=0), 10.0)
            assert await client.health()
            return first, await client.stream().infer(small.request(2, cut=0), 10.0)

    for reply in asyncio.run(main()):
        assert (reply.quorum.votes, reply.quorum.alive) == (1, 1)
        assert reply.server_s > 0.4


def test_the_verdict_comes_before_the_deadline(small, scripted, quorum):
    unsure = lambda image, gate: scripted.leaning(4, 0.01)  # noqa: E731
    learners = [scripted(name, unsure, pause_s=0.6) for name in NAMES]
    running = quorum(learners=learners, parallel=True, alpha=0.0)

    async def main():
        async with running as client:
            return await client.stream().infer(small.request(1, cut=0, deadline_s=1.0), 5.0)

    reply = asyncio.run(main())
    # The last gate would take 1.8 s.
    assert reply.server_s < 1.5
    assert reply.prediction == 4
    assert reply.exit < 2
    assert reply.quorum.reason == pb.QUORUM_REASON_DEADLINE


def test_bad_requests_are_refused_by_name_and_blame_no_learner(small, quorum):
    running = quorum(probe_s=60.0)
    torn = small.request(1, cut=0)
    torn.image.data = torn.image.data[:-30]
    torn.payload_crc = zlib.crc32(torn.image.data)
    other = small.request(2, cut=0)
    other.model_id = "0" * 16
    passed = with_state(small, 3, np.zeros(5, np.float32), 4)
    cases = [
        (torn, CODE.INVALID_ARGUMENT, "image.data"),
        (other, CODE.FAILED_PRECONDITION, "model_id"),
        (passed, CODE.INVALID_ARGUMENT, "exit_state.exits_passed"),
        (small.request(4, cut=2), CODE.FAILED_PRECONDITION, "split"),
        (small.request(5, cut=2, keep=0.5), CODE.INVALID_ARGUMENT, "tokens.count"),
    ]

    async def main():
        async with running as client:
            for request, code, field in cases:
                for call in (client.infer(request), client.stream().infer(request, 5.0)):
                    with pytest.raises(Refused, match=field) as caught:
                        await call
                    assert caught.value.code is code
            with pytest.raises(Refused) as caught:
                await client.refine(pb.RefineRequest())
            assert caught.value.code is CODE.NOT_FOUND
            return await client.infer(small.request(6, cut=0))

    assert asyncio.run(main()).quorum.alive == 3


def test_more_requests_than_the_queue_holds_are_refused(small, scripted, quorum):
    learners = [scripted(name, pause_s=0.05) for name in NAMES]
    running = quorum(learners=learners, limits={"max_pending": 4})

    async def main():
        async with running as client:
            asked = [client.infer(small.request(number, cut=0)) for number in range(1, 11)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            after = await client.infer(small.request(11, cut=0))
            return found, after

    found, after = asyncio.run(main())
    refused = [error for error in found if isinstance(error, Refused)]
    assert {error.code for error in refused} == {CODE.RESOURCE_EXHAUSTED}
    assert len(refused) == 6
    assert after.load == 0


def test_a_client_that_vanishes_leaves_no_question_behind(small, scripted, quorum):
    learners = [scripted(name, gates=3, pause_s=0.1) for name in NAMES]
    running = quorum(learners=learners, parallel=True, alpha=0.0)

    async def main():
        async with running as client:
            async with ServiceClient(client.address) as other:
                task = asyncio.create_task(other.infer(small.request(1, cut=0)))
                await asyncio.sleep(0.05)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.5)
            return (await client.infer(small.request(2, cut=0))).load

    assert asyncio.run(main()) == 0
    # One gate each for the first at most, three for the second.
    assert all(len(learner.batches) <= 4 for learner in learners)


def test_it_drains_what_it_has_taken(small, scripted, quorum):
    running = quorum(learners=[scripted(name, pause_s=0.1) for name in NAMES], limits={"grace_s": 5.0})

    async def main():
        async with running as client:
            pending = asyncio.create_task(client.stream().infer(small.request(1, cut=0), 5.0))
            await asyncio.sleep(0.05)
            ending = asyncio.create_task(running.coordinator.aclose())
            await asyncio.sleep(0.02)
            assert not await client.health()
            with pytest.raises(RemoteError):
                await client.infer(small.request(2, cut=0), 1.0)
            reply = await pending
            await ending
            return reply

    assert asyncio.run(main()).request_id == 1


def test_a_device_that_came_before_the_learners_learns_what_they_take(small, scripted, in_loop):
    tail = scripted("a", lambda tokens, gate: scripted.leaning(3, 0.9))
    tail.card = tail.card._replace(head_id=small.card.id, cut=2, shape=(4, 4, 24))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = [{"model": "a", "address": f"127.0.0.1:{port}"}]
    config = QuorumConfig(learners=places, model=str(small.path), patience_s=30.0, probe_s=0.05)
    image = np.zeros((16, 16, 1), np.uint8)

    async def main():
        async with in_loop(Parts(device=(small.card, small.codec)), quorum=config) as address:
            opened = partial(Client, address, small.path, policy=Decision(2), deadline_s=5.0)
            device = await asyncio.to_thread(opened)
            learner = Parts(runners={"a": tail}, codecs={small.card.id: small.codec})
            async with in_loop(learner, port=port), ServiceClient(address) as client:
                end = time.monotonic() + 20.0
                while not await client.health():
                    assert time.monotonic() < end
                # Of its first request, an image, it is told that nobody takes it.
                results = [await asyncio.to_thread(device.infer, image)]
                while results[-1].local:
                    assert time.monotonic() < end, device.last_error
                    results.append(await asyncio.to_thread(device.infer, image))
                await asyncio.to_thread(device.close)
            return results

    results = asyncio.run(main())
    assert results[0].degraded
    assert results[-1].prediction == 3
