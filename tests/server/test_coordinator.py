"""A coordinator and its learners over gRPC, all in one loop: verdicts, opinions from the device, faults, refusals."""

import asyncio
import time
import zlib
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

from splitpoint.codec.image import decode_image
from splitpoint.codec.requests import QUORUM_BYTES, exit_state_message
from splitpoint.errors import ConfigError, RemoteError
from splitpoint.models.recursion import opinion
from splitpoint.policies.coordination import Ask, Opinion, coordinate
from splitpoint.policies.quorum import QuorumRule
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import LinkDown, Refused, ServiceClient
from splitpoint.server.engine import Parts
from splitpoint.server.quorum_config import QuorumConfig

CODE = grpc.StatusCode
CERTS = Path(__file__).parent.parent / "protos" / "certs"
NAMES = ("a", "b", "c")


def disagreeing(scripted, place):
    """Opinions that agree on some images only, and grow surer from gate to gate."""

    def says(image, gate):
        pixel = int(image[0, 0, 0])
        strength = 0.15 + 0.3 * gate + 0.2 * (pixel % 2)
        return scripted.leaning((pixel + (pixel // 5 % 3 == place)) % 5, strength)

    return says


@pytest.fixture
def quorum(small, scripted, in_loop):
    """`async with quorum(...) as (client, learners)`: a coordinator of learners in servers of their own."""

    class Running:
        def __init__(self, *, learners=None, local=False, on_device=False, limits=None, **settings):
            self.learners = learners or [scripted(n, disagreeing(scripted, i)) for i, n in enumerate(NAMES)]
            self.local, self.on_device = local, on_device
            # Patient: where machines are shared, a turn of the loop may take a second.
            self.settings = {"order": "listed", "patience_s": 30.0, "probe_s": 30.0, "alpha": 5e-4} | settings
            self.limits = limits or {}
            self.elsewhere, self.coordinator, self.client = (AsyncExitStack() for _ in range(3))

        async def __aenter__(self):
            places = [{"model": str(small.path), "on_device": True}] if self.on_device else []
            codecs = {small.card.id: small.codec}
            for learner in self.learners:
                place = {"model": learner.card.name}
                if not self.local:
                    context = in_loop(Parts(runners={learner.card.name: learner}, codecs=codecs))
                    place["address"] = await self.elsewhere.enter_async_context(context)
                places.append(place)
            config = QuorumConfig(learners=places, model=str(small.path), **self.settings)
            runners = {learner.card.name: learner for learner in self.learners} if self.local else {}
            parts = Parts(runners=runners, codecs=codecs, device=(small.card, small.codec))
            context = in_loop(parts, quorum=config, **self.limits)
            try:
                address = await self.coordinator.enter_async_context(context)
            except BaseException:
                await self.elsewhere.aclose()
                raise
            return await self.client.enter_async_context(ServiceClient(address))

        async def __aexit__(self, *what):
            for stack in (self.client, self.coordinator, self.elsewhere):
                await stack.aclose()

    return Running


def expected(small, learners, request, *, parallel, early=()):
    """The verdict on these opinions in virtual time, with everybody answering at once."""
    image = decode_image(request.image, (16, 16, 1))
    steps = coordinate(QuorumRule(alpha=5e-4), range(len(learners)), 3, parallel=parallel, early=early)
    waiting, effect = [], next(steps)
    try:
        while True:
            if isinstance(effect, Ask):
                for gate in range(effect.first, effect.last + 1):
                    said = learners[effect.learner]._says(image, gate)
                    waiting.append(Opinion(effect.learner, gate, said, 100 * (gate + 1)))
                effect = steps.send(None)
            else:
                effect = steps.send(waiting.pop(0))
    except StopIteration as stopped:
        return stopped.value


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("local", [False, True])
def test_answers_are_the_verdicts_of_the_same_opinions(small, quorum, parallel, local):
    running = quorum(parallel=parallel, local=local)
    requests = [small.request(number, cut=0) for number in range(1, 41)]

    async def main():
        async with running as client:
            stream = client.stream()
            streamed = await asyncio.gather(*(stream.infer(request, 20.0) for request in requests))
            return streamed, [await client.infer(request) for request in requests[:5]]

    streamed, unary = asyncio.run(main())
    gates = set()
    for request, reply in zip(requests, streamed, strict=True):
        verdict = expected(small, running.learners, request, parallel=parallel)
        assert (reply.request_id, reply.prediction) == (request.request_id, verdict.prediction)
        assert (reply.exit, reply.margin) == (verdict.gate, pytest.approx(verdict.margin))
        assert (reply.quorum.votes, reply.quorum.alive) == (verdict.votes, 3)
        if not parallel:
            # Who is told first at once is up to the clock, and so is what was received when the verdict stood.
            assert (reply.quorum.asked, reply.quorum.macs) == (verdict.asked, verdict.macs)
        assert reply.quorum.reason in (pb.QUORUM_REASON_QUORUM, pb.QUORUM_REASON_LAST)
        assert 0.0 < reply.server_s < 20.0
        gates.add(reply.exit)
    assert [reply.prediction for reply in unary] == [reply.prediction for reply in streamed[:5]]
    assert len(gates) > 1
    without = pb.InferReply()
    without.CopyFrom(streamed[0])
    without.ClearField("quorum")
    assert {reply.ByteSize() for reply in streamed} == {without.ByteSize() + QUORUM_BYTES}


def with_state(small, number, logits, passed):
    request = small.request(number, cut=0)
    state = np.zeros(small.card.exit_state_dim, np.float32)
    request.exit_state.CopyFrom(exit_state_message(state, logits, passed, 0.5))
    return request


@pytest.mark.parametrize("on_device", [True, False])
def test_what_the_device_thinks_has_a_vote_where_it_is_in_the_quorum(small, scripted, quorum, on_device):
    logits = np.array([0.0, 0.0, 9.0, 0.0, 0.0], np.float32)
    agreeing = [scripted(name, lambda image, gate: scripted.leaning(2, 0.9)) for name in NAMES]
    running = quorum(learners=agreeing, on_device=on_device)

    async def main():
        async with running as client:
            return [await client.infer(with_state(small, 1, logits, passed)) for passed in (1, 2, 3)]

    replies = asyncio.run(main())
    assert {reply.prediction for reply in replies} == {2}
    early = [Opinion(9, passed - 1, opinion(logits), 0) for passed in (1, 2, 3)]
    for reply, said in zip(replies, early, strict=True):
        told = [said] if on_device else []
        verdict = expected(small, agreeing, small.request(1, cut=0), parallel=False, early=told)
        assert (reply.quorum.votes, reply.quorum.asked) == (verdict.votes, verdict.asked)
        assert reply.quorum.alive == 3 + on_device
        assert reply.exit == verdict.gate


def test_an_unmodified_client_is_answered(small, quorum):
    from splitpoint.device.client import Client
    from splitpoint.policies.decision import Decision

    running = quorum()
    request = small.request(3, cut=0)
    image = decode_image(request.image, (16, 16, 1))

    async def main():
        async with running as client:

            def answers():
                with Client(client.address, small.path, policy=Decision(0), deadline_s=5.0) as device:
                    return device.infer(image)

            return await asyncio.to_thread(answers)

    answer = asyncio.run(main())
    verdict = expected(small, running.learners, request, parallel=False)
    assert (answer.where, answer.prediction, answer.exit) == ("server", verdict.prediction, verdict.gate)


def test_without_a_learner_the_device_is_told_at_once(small, quorum):
    running = quorum(probe_s=0.05)

    async def main():
        async with running as client:
            await running.elsewhere.aclose()
            since = time.monotonic()
            with pytest.raises(LinkDown, match="no learner gave an opinion"):
                await client.stream().infer(small.request(1, cut=0, deadline_s=5.0), 5.0)
            return time.monotonic() - since

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


def test_the_one_expected_to_answer_first_is_asked_first(small, scripted, quorum):
    agreeing = lambda image, gate: scripted.leaning(1, 0.9)  # noqa: E731
    slow, b, c = scripted("slow", agreeing, pause_s=0.05), scripted("b", agreeing), scripted("c", agreeing)
    running = quorum(learners=[slow, b, c], order="cost")

    async def main():
        async with running as client:
            for number in range(1, 11):
                reply = await client.infer(small.request(number, cut=0))
            return reply

    assert asyncio.run(main()).quorum.votes == 2
    # At first nothing is known of it; then the other two are enough.
    assert len(slow.batches) == 1


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
        (small.request(4, cut=2), CODE.INVALID_ARGUMENT, "split"),
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


def test_tails_over_a_shared_head_take_one_upload_of_tokens(small, scripted, quorum):
    def says(tokens, gate):
        assert tokens.shape == (17, 24)
        return scripted.leaning(3, 0.9)

    tails = [scripted(name, says) for name in NAMES]
    for tail in tails:
        tail.card = tail.card._replace(head_id=small.card.id, cut=2, shape=(4, 4, 24))
    logits = np.array([0.0, 0.0, 0.0, 9.0, 0.0], np.float32)

    async def main(local):
        async with quorum(learners=tails, local=local, on_device=True) as client:
            request = small.request(1, cut=2)
            request.exit_state.logits = logits.astype("<f2").tobytes()
            return await client.infer(request)

    for local in (True, False):
        reply = asyncio.run(main(local))
        # The device passed the exit at its cut, the second: it has no vote before.
        assert (reply.prediction, reply.quorum.alive, reply.quorum.votes, reply.exit) == (3, 4, 2, 0)


def test_learners_that_do_not_fit_are_not_asked_or_not_started(small, scripted, quorum):
    fine = [scripted("a"), scripted("b")]

    async def alive(**settings):
        async with quorum(**settings) as client:
            return (await client.infer(small.request(1, cut=0))).quorum.alive

    for odd in (scripted("c", gates=2), scripted("c", shape=(8, 8, 1))):
        assert asyncio.run(alive(learners=[*fine, odd])) == 2
        with pytest.raises(ConfigError, match=r"learners\.2: learner c"):
            asyncio.run(alive(learners=[*fine, odd], local=True))


def test_learners_behind_tls_are_asked_and_others_not(small, scripted, in_loop):
    secured = {
        "certificate": CERTS / "server.pem",
        "key": CERTS / "server.key",
        "client_root": CERTS / "ca.pem",
    }
    own = {"root": CERTS / "ca.pem", "certificate": CERTS / "client.pem", "key": CERTS / "client.key"}

    async def alive(**tls):
        async with in_loop(Parts(runners={"a": scripted("a")}), **secured) as elsewhere:
            places = [{"model": "a", "address": elsewhere}, {"model": "b"}]
            config = QuorumConfig(
                learners=places, model=str(small.path), patience_s=30.0, probe_s=30.0, **tls
            )
            parts = Parts(runners={"b": scripted("b")}, device=(small.card, small.codec))
            async with in_loop(parts, quorum=config) as address, ServiceClient(address) as client:
                return (await client.infer(small.request(1, cut=0))).quorum.alive

    assert asyncio.run(alive(tls=own | {"server_name": "splitpoint.test"})) == 2
    assert asyncio.run(alive()) == 1


def test_a_learner_that_is_here_and_elsewhere_has_no_second_vote(small, scripted, in_loop):
    config = QuorumConfig(
        learners=[{"model": "a", "address": "127.0.0.1:1"}, {"model": "file"}], model=str(small.path)
    )
    parts = Parts(runners={"file": scripted("a")}, device=(small.card, small.codec))

    async def main():
        async with in_loop(parts, quorum=config):
            pass

    with pytest.raises(ConfigError, match="'a' is here and elsewhere"):
        asyncio.run(main())


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
