"""Replies that fit no request, and Decisions that fit no network, cost accuracy and never an answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from splitpoint.clock import Clock
from splitpoint.codec.requests import build_reply
from splitpoint.device.load import load_head
from splitpoint.device.realtime_batch import BatchDevice
from splitpoint.device.session import Finished
from splitpoint.policies.decision import Decision
from splitpoint.protos import splitpoint_pb2 as pb

from .conftest import Small, make_small
from .real_time import make_encoder, make_session

Change = Callable[[pb.InferReply], Any]


class Service:
    """A server in this process that is always there; `change` is done to every reply."""

    address = "here"

    def __init__(self, change: Change) -> None:
        self._change = change
        self.asked: list[str] = []
        self.closed = False

    def stream(self) -> Service:
        return self

    async def infer(self, request: pb.InferRequest, timeout: float) -> pb.InferReply:
        return self._reply("infer", request.request_id)

    async def refine(self, request: pb.RefineRequest, timeout: float) -> pb.InferReply:
        return self._reply("refine", request.request_id)

    def _reply(self, method: str, request_id: int) -> pb.InferReply:
        self.asked.append(method)
        reply = build_reply(request_id=request_id, prediction=1, margin=0.5, exit=2, server_s=0.0, load=1.0)
        self._change(reply)
        return reply

    async def close(self) -> None:
        self.closed = True


def served(
    small: Small,
    decision: Decision,
    change: Change = lambda reply: None,
    count: int = 1,
    whole_input: bool = False,
) -> tuple[list[Finished], BatchDevice, Service]:
    """`count` images that come together, answered on a device before such a server."""
    service = Service(change)

    async def run() -> tuple[list[Finished], BatchDevice]:
        device = BatchDevice(
            make_session(small, decision),
            load_head(small.folder),
            make_encoder(small),
            service,  # type: ignore[arg-type]
            Clock(),
        )
        device.encoder.whole_input = whole_input
        images = [small.image(seed) for seed in range(count)]
        finished = await device.serve_batch(images, device.clock.now())
        await device.close()
        return finished, device

    return *asyncio.run(run()), service


def test_a_reply_as_it_should_be_is_the_answer(small: Small) -> None:
    (finished,), device, service = served(small, Decision(2))
    assert (finished.answer.prediction, finished.answer.degraded) == (1, False)
    assert device.last_error is None
    assert service.closed


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda reply: setattr(reply, "prediction", 5), "prediction"),
        (lambda reply: setattr(reply, "exit", 3), "exit 3 of 3"),
        (lambda reply: reply.group.add(prediction=1), "2 answers to 1 groups"),
        (lambda reply: setattr(reply, "margin", math.nan), "margin"),
        (lambda reply: setattr(reply, "margin", 1.5), "margin"),
        (lambda reply: setattr(reply, "server_s", -math.inf), "times"),
        (lambda reply: setattr(reply, "load", math.nan), "load"),
        (lambda reply: setattr(reply.link, "rate_bps", math.inf), "link"),
        (lambda reply: setattr(reply.link, "snr_db", -math.inf), "link"),
        (lambda reply: setattr(reply.link, "airtime_up_s", math.nan), "link"),
    ],
)
def test_a_reply_that_is_none_is_answered_here_and_teaches_nothing(
    small: Small, change: Change, field: str
) -> None:
    (finished,), device, _ = served(small, Decision(2), change)
    assert (finished.answer.local, finished.answer.degraded) == (True, True)
    assert field in str(device.last_error)
    assert device.session.link_up
    observation = device.session.observe(device.clock.now(), 0.0, 0)
    assert math.isnan(observation.rate_bps)
    assert math.isnan(observation.server_load)


def test_learners_that_voted_may_have_more_gates_than_the_network_has_exits(small: Small) -> None:
    def vote(reply: pb.InferReply) -> None:
        reply.exit, reply.quorum.votes = 7, 3

    (finished,), device, _ = served(small, Decision(2), vote)
    assert (finished.answer.exit, finished.answer.degraded) == (7, False)
    assert device.last_error is None


@pytest.mark.parametrize("split", [0, 2])
def test_a_session_that_nobody_allowed_for_is_passed(small: Small, split: int) -> None:
    (finished,), _, service = served(small, Decision(split), lambda reply: setattr(reply, "session", 7))
    assert (finished.answer.local, finished.answer.refined, finished.answer.degraded) == (False, False, False)
    assert service.asked == ["infer"]


def test_a_merged_request_with_too_few_answers_is_answered_here(small: Small) -> None:
    finished, device, _ = served(small, Decision(2, merge=0.5), count=4)
    assert [one.answer.degraded for one in finished] == [True] * 4
    assert "1 answers to 2 groups" in str(device.last_error)


@pytest.mark.parametrize("decision", [Decision(0, merge=0.5), Decision(2, symbols=0.5, merge=0.5)])
def test_raw_inputs_and_symbols_are_not_merged(small: Small, decision: Decision) -> None:
    finished, device, service = served(small, decision, count=3)
    assert device.session.batch == 1
    # There is no code for symbols, and for each request by itself it is said.
    assert service.asked == ([] if decision.symbols else ["infer"] * 3)
    assert [one.answer.degraded for one in finished] == [bool(decision.symbols)] * 3


def test_whole_inputs_are_not_merged(small: Small) -> None:
    finished, _, service = served(small, Decision(2, merge=0.5), count=3, whole_input=True)
    assert [one.answer.degraded for one in finished] == [False] * 3
    assert service.asked == ["infer"] * 3


def test_symbols_that_the_network_has_no_code_for_are_not_sent(small: Small) -> None:
    (finished,), device, service = served(small, Decision(2, symbols=0.5))
    assert (finished.answer.degraded, finished.trip, service.asked) == (True, None, [])
    assert "symbols" in str(device.last_error)


def test_a_policy_that_would_merge_what_gates_chose_is_replaced(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    gated = make_small(tmp_path_factory.mktemp("gated"), 7, gates=True)
    finished, _, service = served(gated, Decision(2, keep=0.5, merge=0.5), count=4)
    assert [one.answer.local for one in finished] == [True] * 4
    assert [one.policy_replaced for one in finished] == [True] * 4
    assert service.asked == []
