"""Requests that come together: merged into one message, or answered by the rules that hold for one."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.codec.adc import unmerge
from splitpoint.codec.tokens import TokenCodec
from splitpoint.device.accounting import Trip, costs, share, shared_costs
from splitpoint.device.agent import Agent
from splitpoint.device.batch import answer_batch
from splitpoint.device.client import Client
from splitpoint.device.effects import Answer, OffloadBatch, Reading, Reply, RunBatch
from splitpoint.device.encoder import Encoder
from splitpoint.device.head import advanced
from splitpoint.device.load import load_head
from splitpoint.models.store import load_network
from splitpoint.policies.decision import Decision
from splitpoint.policies.rules import Power
from splitpoint.server.tail import TorchTail
from splitpoint.server.validation import Validator

from .conftest import Server, Small, Start

EXITS, BLOCK_S, SLACK_S = (2, 4, 6), (0.0, 0.01, 0.03, 0.04, 0.06, 0.07, 0.09), 0.01


def run(
    decision: Decision,
    margins: Sequence[Sequence[float]],
    *,
    due_s: float = 2.0,
    reply_s: float | None = 0.05,
    link_up: bool = True,
) -> tuple[list[Answer], list[Any]]:
    """Answers and effects; margins: one row a request, one column an exit."""
    agent = Agent(EXITS, BLOCK_S, SLACK_S)
    generator = answer_batch(agent, decision, len(margins), 0.0, due_s, link_up)
    effects, now_s, result = [], 0.0, None
    try:
        while True:
            effect = generator.send(result)
            effects.append(effect)
            if isinstance(effect, RunBatch):
                now_s += len(effect.members) * (BLOCK_S[effect.stop] - BLOCK_S[effect.start])
                exit = agent.exit_at.get(effect.stop)
                found = [
                    None if exit is None else Reading(exit, margins[member][exit], exit)
                    for member in effect.members
                ]
                result = now_s, found
            elif reply_s is not None and now_s + reply_s <= effect.answer_by_s:
                now_s += reply_s
                result = now_s, [Reply(10 + member, 0.9, 2) for member in effect.members]
            else:
                now_s = effect.answer_by_s
                result = now_s, None
    except StopIteration as stopped:
        return stopped.value, effects


def test_who_is_sure_answers_here_and_the_others_go_in_one_message() -> None:
    decision = Decision(3, exit_margin=0.5, merge=0.5)
    answers, effects = run(decision, [(0.9, 0, 0), (0.1, 0, 0), (0.2, 0, 0)])
    assert effects == [
        RunBatch(0, 2, 1.0, (0, 1, 2)),
        RunBatch(2, 3, 1.0, (1, 2)),
        OffloadBatch(3, decision, 2.0 - SLACK_S, (1, 2)),
    ]
    assert [answer.local for answer in answers] == [True, False, False]
    assert [answer.prediction for answer in answers] == [0, 11, 12]
    assert answers[0].done_s == pytest.approx(0.09)
    assert answers[1].done_s == pytest.approx(0.09 + 0.02 + 0.05)


def test_without_a_reply_each_falls_back_on_its_own_exit_in_time() -> None:
    answers, _ = run(Decision(3, merge=0.5), [(0.3, 0, 0), (0.4, 0, 0)], reply_s=None, due_s=0.5)
    assert [(a.exit, a.margin, a.local, a.degraded, a.offloaded) for a in answers] == [
        (0, 0.3, True, True, True),
        (0, 0.4, True, True, True),
    ]
    assert answers[0].done_s == pytest.approx(0.5 - SLACK_S)


@pytest.mark.parametrize("due_s", [0.2, 0.245])
def test_blocks_that_would_not_end_for_all_before_the_reserve_are_not_begun(due_s: float) -> None:
    # For one of them there would be time, for all four, with the reserve, there is not.
    answers, effects = run(Decision(6, merge=0.5), [(0.3, 0, 0)] * 4, due_s=due_s)
    assert effects == [RunBatch(0, 2, 1.0, (0, 1, 2, 3))]
    assert [(a.exit, a.degraded, a.offloaded) for a in answers] == [(0, True, False)] * 4


def test_all_local_answers_at_the_last_exit_and_is_not_degraded() -> None:
    answers, _ = run(Decision(6, merge=0.5), [(0.1, 0.2, 0.3)] * 2)
    assert [(a.exit, a.cut, a.degraded, a.offloaded) for a in answers] == [(2, 6, False, False)] * 2


def test_before_the_first_exit_the_time_for_all_of_them_is_kept_in_reserve() -> None:
    answers, effects = run(Decision(1, merge=0.5), [(0.3, 0, 0)] * 4, reply_s=None, due_s=1.0)
    assert effects[1].answer_by_s == pytest.approx(1.0 - SLACK_S - 4 * 0.02)
    assert effects[2] == RunBatch(1, 2, 1.0, (0, 1, 2, 3))
    assert answers[3].done_s == pytest.approx(1.0 - SLACK_S)


margins = st.floats(0.0, 1.0)


@given(
    st.lists(st.tuples(margins, margins, margins), min_size=1, max_size=6),
    st.integers(0, 6),
    margins,
    st.none() | st.floats(0.0, 0.5),
    st.floats(0.0, 2.0),
    st.booleans(),
)
def test_every_request_is_answered_once_and_no_block_runs_twice(
    rows: list[tuple[float, ...]],
    split: int,
    exit_margin: float,
    reply_s: float | None,
    due_s: float,
    up: bool,
) -> None:
    decision = Decision(split, exit_margin=exit_margin, merge=0.5)
    answers, effects = run(decision, rows, due_s=due_s, reply_s=reply_s, link_up=up)
    assert len(answers) == len(rows)
    reached = [0] * len(rows)
    for effect in effects:
        if isinstance(effect, RunBatch):
            for member in effect.members:
                assert reached[member] == effect.start
                reached[member] = effect.stop
    sent = [member for effect in effects if isinstance(effect, OffloadBatch) for member in effect.members]
    assert len(set(sent)) == len(sent)
    assert up or not sent
    for member, answer in enumerate(answers):
        assert answer.cut == reached[member]
        assert answer.offloaded == (member in sent)
        if answer.local:
            assert EXITS[answer.exit] <= answer.cut


def test_what_was_sent_is_shared_to_the_byte() -> None:
    whole = Trip(0.1, 1001, 77, 0.2, 0.01, 0.02, 0.15, 0.015)
    parts = [share(whole, place, 4) for place in range(4)]
    assert sum(part.uplink_bytes for part in parts) == 1001
    assert sum(part.downlink_bytes for part in parts) == 77
    assert sum(part.airtime_up_s for part in parts) == pytest.approx(0.15)
    assert sum(part.airtime_down_s for part in parts) == pytest.approx(0.015)
    power = Power(2.0, 1.0, 0.5, 0.1)
    answer = Answer(Decision(2, merge=0.5), 1, 0.5, 2, 2, True, False, False, 0.5)
    one = shared_costs(answer, whole, 4, 0.03, 0.9, power)
    radio = costs(answer, whole, 0.0, 0.9, power)
    assert one.energy_j == pytest.approx(2.0 * 0.03 + radio.energy_j / 4)
    assert one[:3] == pytest.approx((0.03, 0.15 / 4, 0.015 / 4))
    assert shared_costs(answer, None, 4, 0.03, 0.9, power).energy_j == pytest.approx(0.06)


def expected(small: Small, decision: Decision, images: list[np.ndarray]) -> tuple[list[Any], int]:
    """What the same parts give when they are run in a row, and the request's bytes."""
    card = small.card
    codec = TokenCodec({}, dim=card.dim, max_tokens=card.patch_tokens + 1)
    head = load_head(small.file)
    states = [advanced(head, image, None, decision.split) for image in images]
    request, groups = Encoder(card, codec).merged_request(states, decision, request_id=1, deadline_s=1.0)
    checked = Validator(card, codec).check(request)
    samples = checked.decoded()
    found: dict[int, Any] = {}
    for progress in TorchTail(*load_network(small.file)).run(samples):
        found.update(progress.answers)
    return unmerge(groups, [found[place] for place in range(len(samples))]), request.ByteSize()


def test_a_merged_batch_gets_its_groups_answers(server: Server, small: Small) -> None:
    decision = Decision(2, keep=0.5, dims=12, bits=6, merge=0.5)
    images = [small.image(seed) for seed in range(8)]
    wanted, nbytes = expected(small, decision, images)
    with Client(server.address, small.file, policy=decision, deadline_s=10.0) as client:
        results = client.infer_batch(images)
        alone = client.infer(images[0])
    assert [(r.prediction, r.local, r.degraded) for r in results] == [
        (w.prediction, False, False) for w in wanted
    ]
    assert [r.margin for r in results] == pytest.approx([w.margin for w in wanted], abs=1e-5)
    assert sum(result.uplink_bytes for result in results) == nbytes
    assert len({result.margin for result in results}) == 4
    assert max(result.uplink_bytes for result in results) < 0.7 * alone.uplink_bytes


@pytest.mark.parametrize("merge", [1.0, 0.5])
def test_a_batch_is_merged_only_where_the_decision_allows(server: Server, small: Small, merge: float) -> None:
    decision = Decision(2, bits=6, merge=merge)
    with Client(server.address, small.file, policy=decision, deadline_s=10.0) as client:
        results = client.infer_batch([small.image(seed) for seed in range(4)])
    assert len({result.margin for result in results}) == (4 if merge == 1.0 else 2)


def test_a_batch_of_more_groups_than_a_message_may_have_is_sent_in_parts(
    server: Server, small: Small
) -> None:
    images = [small.image(seed % 7) for seed in range(150)]
    with Client(server.address, small.folder, policy=Decision(2, merge=0.5), deadline_s=30.0) as client:
        results = client.infer_batch(images)
        assert client.last_error is None
    assert len(results) == len(images)
    assert [result.where for result in results] == ["server"] * len(images)


def test_a_lost_server_costs_a_batch_no_answer(start_server: Start, small: Small) -> None:
    server = start_server(small.file)
    with Client(server.address, small.file, policy=Decision(2, merge=0.5), deadline_s=0.5) as client:
        client.infer_batch([small.image(seed) for seed in range(4)])
        server.signal(signal.SIGSTOP)
        results = client.infer_batch([small.image(seed) for seed in range(4)])
    assert len(results) == 4
    assert all(result.degraded and result.local for result in results)
    assert not any(math.isnan(result.latency_s) or result.late for result in results)
