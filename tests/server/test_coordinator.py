"""A coordinator and its learners over gRPC: verdicts, opinions from the device, who is asked, and who is not."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from splitpoint.codec.image import decode_image
from splitpoint.codec.requests import QUORUM_BYTES
from splitpoint.errors import ConfigError
from splitpoint.models.recursion import opinion
from splitpoint.policies.coordination import Ask, Opinion, coordinate
from splitpoint.policies.quorum import QuorumRule
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import Refused, ServiceClient
from splitpoint.server.engine import Parts
from splitpoint.server.quorum_config import QuorumConfig

from .coordinators import NAMES, with_state

CERTS = Path(__file__).parent.parent / "protos" / "certs"


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


def test_tails_over_a_shared_head_take_no_rest_token(small, scripted, in_loop, quorum):
    tail = scripted("a")
    tail.card = tail.card._replace(head_id=small.card.id, cut=2, shape=(4, 4, 24))
    alone, whole = small.request(1, cut=2, state=False), small.request(2, cut=2)
    # As many tokens as there are patches, but the one that was left out comes first: they are not in their places.
    alone.tokens.rest = whole.tokens.rest = 1
    asked = pb.RunGatesRequest(request=alone, learner="a", last_gate=2)

    async def main():
        parts = Parts(runners={"a": tail}, codecs={small.card.id: small.codec})
        async with in_loop(parts) as address, ServiceClient(address) as client:
            with pytest.raises(Refused, match=r"request\.tokens\.rest"):
                [result async for result in client.run_gates(asked, 20.0)]
        async with quorum(learners=[tail], local=True, on_device=True) as client:
            with pytest.raises(Refused, match=r"tokens\.rest: a quorum"):
                await client.infer(whole)

    asyncio.run(main())


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
