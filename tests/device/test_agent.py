"""The agent's rules, branch by branch, and what must hold whatever the readings, times and failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.device.agent import Agent
from splitpoint.device.effects import Answer, Offload, Reading, Refine, Reply, RunBlocks
from splitpoint.policies.decision import NEVER, Decision

EXITS = (2, 4, 6)
BLOCK_S = (0.0, 0.01, 0.03, 0.04, 0.06, 0.07, 0.09)
"""Ten milliseconds a block and ten an exit."""


@dataclass
class Driver:
    """Executes effects in a made-up time. margins: one an exit; reply_s: after the sending, None for never; asks:
    the first reply wants more; further_s: as reply_s, after the refinement."""

    agent: Agent
    margins: tuple[float, ...]
    reply_s: float | None = 0.02
    fails_s: float | None = None
    asks: bool = False
    further_s: float | None = 0.03
    effects: list[Any] = field(default_factory=list)

    def run(self, decision: Decision, now_s: float = 0.0, due_s: float = 1.0, link_up: bool = True) -> Answer:
        generator = self.agent.answer(decision, now_s, due_s, link_up)
        result: Any = None
        try:
            while True:
                effect = generator.send(result)
                self.effects.append(effect)
                if isinstance(effect, RunBlocks):
                    now_s += self.agent.block_s[effect.stop] - self.agent.block_s[effect.start]
                    exit = self.agent.exit_at.get(effect.stop)
                    reading = None if exit is None else Reading(exit, self.margins[exit], exit)
                    result = now_s, reading
                else:
                    result = now_s, _reply = self._offload(effect, now_s)
                    now_s = result[0]
        except StopIteration as stopped:
            return stopped.value

    def _offload(self, effect: Offload | Refine, now_s: float) -> tuple[float, Reply | None]:
        if isinstance(effect, Refine):
            if self.further_s is not None and now_s + self.further_s <= effect.answer_by_s:
                return now_s + self.further_s, Reply(8, 0.999, 2)
            return effect.answer_by_s, None
        if self.fails_s is not None and now_s + self.fails_s < effect.answer_by_s:
            return now_s + self.fails_s, None
        if self.asks and self.reply_s is not None and now_s + self.reply_s <= effect.answer_by_s:
            return now_s + self.reply_s, Reply(9, 0.1, 2, 77)
        if self.reply_s is not None and now_s + self.reply_s <= effect.answer_by_s:
            return now_s + self.reply_s, Reply(9, 0.99, 2)
        return effect.answer_by_s, None


def driver(*margins: float, **options: Any) -> Driver:
    return Driver(Agent(EXITS, BLOCK_S, 0.01), margins or (0.1, 0.2, 0.3), **options)


def test_an_exit_that_is_sure_answers_at_once() -> None:
    device = driver(0.2, 0.8, 0.9)
    answer = device.run(Decision(6, exit_margin=0.7))
    assert device.effects == [RunBlocks(0, 2), RunBlocks(2, 4)]
    assert (answer.exit, answer.cut, answer.local, answer.degraded) == (1, 4, True, False)
    assert answer.done_s == pytest.approx(0.06)


def test_a_margin_equal_to_the_threshold_answers() -> None:
    assert driver(0.5, 0.6, 0.7).run(Decision(6, exit_margin=0.5)).exit == 0


def test_all_local_answers_at_the_last_exit_however_unsure_and_is_not_degraded() -> None:
    answer = driver(0.0, 0.0, 0.0).run(Decision(6))
    assert (answer.exit, answer.cut, answer.local, answer.degraded, answer.offloaded) == (
        2,
        6,
        True,
        False,
        False,
    )


def test_an_unsure_device_sends_from_the_split() -> None:
    device = driver()
    answer = device.run(Decision(3))
    assert [type(effect) for effect in device.effects] == [RunBlocks, RunBlocks, Offload]
    assert device.effects[-1].cut == 3
    assert (answer.prediction, answer.exit, answer.cut) == (9, 2, 3)
    assert (answer.offloaded, answer.local, answer.degraded) == (True, False, False)
    assert answer.done_s == pytest.approx(0.04 + 0.02)


def test_split_0_sends_the_input_and_runs_nothing() -> None:
    device = driver()
    answer = device.run(Decision(0))
    assert [type(effect) for effect in device.effects] == [Offload]
    assert answer.cut == 0


def test_confidence_that_rises_too_slowly_is_sent_before_the_split() -> None:
    device = driver(0.3, 0.35, 0.9)
    answer = device.run(Decision(6, exit_margin=0.8, offload_slope=0.1))
    assert device.effects == [RunBlocks(0, 2), RunBlocks(2, 4), device.effects[-1]]
    assert answer.cut == 4
    assert answer.offloaded


def test_confidence_that_rises_fast_enough_runs_on() -> None:
    answer = driver(0.3, 0.5, 0.9).run(Decision(6, exit_margin=0.8, offload_slope=0.1))
    assert (answer.cut, answer.offloaded) == (6, False)


def test_the_first_exit_has_no_slope() -> None:
    answer = driver(0.0, 0.9, 0.9).run(Decision(6, exit_margin=0.8, offload_slope=0.5))
    assert (answer.exit, answer.offloaded) == (1, False)


def test_no_reply_falls_back_on_the_best_exit_so_far_in_time() -> None:
    device = driver(reply_s=None)
    answer = device.run(Decision(4), due_s=0.5)
    assert (answer.exit, answer.cut, answer.local, answer.degraded, answer.offloaded) == (
        1,
        4,
        True,
        True,
        True,
    )
    assert answer.done_s == pytest.approx(0.5 - 0.01)


@pytest.mark.parametrize("split", [0, 1])
def test_before_the_first_exit_the_time_to_reach_it_is_kept_in_reserve(split: int) -> None:
    device = driver(reply_s=None)
    answer = device.run(Decision(split), due_s=0.5)
    offload, fallback = device.effects[-2:]
    assert offload.answer_by_s == pytest.approx(0.5 - 0.01 - (BLOCK_S[2] - BLOCK_S[split]))
    assert fallback == RunBlocks(split, 2)
    assert (answer.exit, answer.cut, answer.degraded) == (0, 2, True)
    assert answer.done_s == pytest.approx(0.49)


def test_a_link_that_breaks_is_answered_at_once_not_at_the_deadline() -> None:
    answer = driver(fails_s=0.005).run(Decision(2), due_s=0.5)
    assert answer.done_s == pytest.approx(0.03 + 0.005)
    assert answer.degraded


def test_a_link_that_is_down_is_not_tried() -> None:
    device = driver()
    answer = device.run(Decision(0), link_up=False)
    assert device.effects == [RunBlocks(0, 2)]
    assert (answer.local, answer.degraded, answer.offloaded) == (True, True, False)


@pytest.mark.parametrize("split", range(7))
def test_a_start_after_the_deadline_answers_at_the_first_exit(split: int) -> None:
    device = driver()
    answer = device.run(Decision(split), now_s=2.0, due_s=1.0)
    assert answer.exit == 0
    assert answer.degraded
    assert not answer.offloaded
    assert answer.done_s == pytest.approx(2.0 + BLOCK_S[2])


@pytest.mark.parametrize("due_s", [0.08, 0.095])
def test_blocks_that_would_not_end_before_the_reserve_are_not_begun(due_s: float) -> None:
    device = driver(0.1, 0.2, 0.3)
    answer = device.run(Decision(6), due_s=due_s)
    assert device.effects == [RunBlocks(0, 2), RunBlocks(2, 4)]
    assert (answer.exit, answer.degraded, answer.offloaded) == (1, True, False)
    assert answer.done_s <= due_s - 0.01 + 1e-9


def test_a_server_that_asks_gets_more_and_its_second_answer_stands() -> None:
    device, decision = driver(asks=True), Decision(3, bits=2, refine_bits=4, refine_margin=0.5)
    answer = device.run(decision)
    offload, refine = device.effects[-2:]
    assert refine == Refine(3, decision, offload.answer_by_s, 77)
    assert (answer.prediction, answer.exit, answer.cut) == (8, 2, 3)
    assert (answer.offloaded, answer.refined, answer.local, answer.degraded) == (True, True, False, False)
    assert answer.done_s == pytest.approx(0.04 + 0.02 + 0.03)


def test_where_the_refinement_is_lost_the_servers_first_answer_is_the_best_so_far() -> None:
    answer = driver(asks=True, further_s=None).run(Decision(3, bits=2, refine_bits=4), due_s=0.5)
    assert (answer.prediction, answer.exit, answer.margin) == (9, 2, 0.1)
    assert (answer.offloaded, answer.refined, answer.local, answer.degraded) == (True, True, False, True)
    assert answer.done_s == pytest.approx(0.49)


def test_a_question_that_comes_too_late_to_answer_is_not_answered() -> None:
    device = driver(asks=True, reply_s=0.45)
    answer = device.run(Decision(3, bits=2, refine_bits=4), due_s=0.5)
    assert [type(effect) for effect in device.effects] == [RunBlocks, RunBlocks, Offload]
    assert (answer.prediction, answer.refined, answer.degraded) == (9, False, True)


margins = st.floats(0.0, 1.0)
steps = st.floats(0.0, 0.05)


@st.composite
def agents(draw: st.DrawFn) -> Agent:
    depth = draw(st.integers(1, 8))
    inner = draw(st.sets(st.integers(1, depth), max_size=4))
    block_s = [0.0]
    for _ in range(depth):
        block_s.append(block_s[-1] + draw(steps))
    return Agent(sorted(inner | {depth}), block_s, draw(st.floats(0.0, 0.02)))


@given(agents(), st.data())
def test_every_request_is_answered_once_no_block_runs_twice_and_never_late_without_need(
    agent: Agent, data: st.DataObject
) -> None:
    decision = Decision(
        data.draw(st.integers(0, agent.depth)),
        exit_margin=data.draw(margins | st.just(NEVER)),
        offload_slope=data.draw(st.floats(-1.0, 1.0)),
    )
    drawn = tuple(data.draw(margins) for _ in agent.exits)
    times = st.none() | st.floats(0.0, 0.3)
    asks = data.draw(st.booleans())
    device = Driver(agent, drawn, data.draw(times), data.draw(times), asks, data.draw(times))
    start_s, due_s = data.draw(st.floats(0.0, 0.5)), data.draw(st.floats(-0.1, 1.0))
    link_up = data.draw(st.booleans())
    answer = device.run(decision, start_s, due_s, link_up)

    reached, sent, refined = 0, 0, 0
    for effect in device.effects:
        if isinstance(effect, RunBlocks):
            assert effect.start == reached < effect.stop
            reached = effect.stop
        elif isinstance(effect, Refine):
            refined += 1
            assert sent == 1
        else:
            sent += 1
            assert effect.cut == reached < agent.depth
            assert link_up
    assert sent == answer.offloaded
    assert sent <= 1
    assert refined == answer.refined
    first = agent.exits[0]
    assert answer.cut == reached <= max(decision.split, first)
    assert answer.done_s <= max(due_s - agent.slack_s, start_s + agent.block_s[first]) + 1e-9
    if answer.local:
        assert agent.exits[answer.exit] <= reached
        assert answer.margin == drawn[answer.exit]
        sure = answer.margin >= decision.exit_margin or agent.exits[answer.exit] == agent.depth
        assert answer.degraded == (not sure or decision.split < first)
    else:
        assert answer.degraded == (asks and answer.prediction == 9)


def test_keeps_that_never_come_again_are_not_remembered_for_ever() -> None:
    agent = Agent(EXITS, BLOCK_S, 0.01, lambda keep: [keep * seconds for seconds in BLOCK_S])
    for part in range(1, 5001):
        next(agent.answer(Decision(3, part / 5000), 0.0, 1.0, True))
    assert agent.times.cache_info().currsize < 3000
    assert agent.times(0.5)[6] == 0.045
    assert agent.times(0.99)[6] == pytest.approx(0.0891)
