"""Asking learners: whom, how far, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.policies.coordination import Ask, Event, Gone, Opinion, Wait, coordinate
from splitpoint.policies.quorum import QuorumRule, Verdict

SURE = QuorumRule(alpha=1.0, confidence=0.0)
NEVER = QuorumRule(alpha=0.0, confidence=1.0)


def said(*classes: int, sure: float = 0.9, of: int = 4) -> np.ndarray:
    """Opinions (len(classes), of), each for its class."""
    out = np.full((len(classes), of), (1 - sure) / (of - 1), dtype=np.float32)
    out[np.arange(len(classes)), classes] = sure
    return out.astype(np.float16).astype(np.float32)


def run(
    rule: QuorumRule,
    table: np.ndarray,
    *,
    order: Sequence[int] | None = None,
    parallel: bool = False,
    early: Sequence[Opinion] = (),
    next_event: Callable[[list[Event]], Event] = lambda coming: coming.pop(0),
) -> tuple[Verdict | None, list[Ask]]:
    """Drive `coordinate` over opinions (L, G, C); a learner's MACs are 10**learner a gate."""
    learners, gates = table.shape[:2]
    asks: list[Ask] = []
    coming: list[Event] = []
    steps = coordinate(rule, order or range(learners), gates, parallel=parallel, early=early)
    event: Event = None
    try:
        while True:
            effect = steps.send(event)
            event = None
            if isinstance(effect, Ask):
                asks.append(effect)
                coming += [
                    Opinion(effect.learner, gate, table[effect.learner, gate], 10**effect.learner)
                    for gate in range(effect.first, effect.last + 1)
                ]
            else:
                assert isinstance(effect, Wait)
                event = next_event(coming)
    except StopIteration as stop:
        return stop.value, asks


def test_two_of_three_are_enough_and_the_third_is_not_asked() -> None:
    table = np.stack([said(1, 1), said(1, 1), said(2, 2)])
    verdict, asks = run(SURE, table)
    assert verdict is not None
    assert verdict._replace(margin=0.0) == Verdict(1, 0.0, 0, 2, 2, "quorum", 11)
    assert abs(verdict.margin - (0.9 - 0.1 / 3)) < 1e-3
    assert asks == [Ask(0, 0, 0), Ask(1, 0, 0)]


def test_a_learner_that_was_not_needed_catches_up() -> None:
    table = np.stack([said(1, 1), said(1, 2), said(2, 2)])
    verdict, asks = run(NEVER, table)
    assert asks == [Ask(0, 0, 0), Ask(1, 0, 0), Ask(0, 1, 1), Ask(1, 1, 1), Ask(2, 0, 1)]
    assert verdict is not None
    assert (verdict.prediction, verdict.gate, verdict.votes, verdict.reason) == (2, 1, 3, "last")
    assert verdict.macs == 2 + 20 + 200


def test_an_unfeasible_gate_is_left_at_once() -> None:
    table = np.stack([said(0, 3), said(1, 3), said(2, 3), said(3, 3), said(3, 3)])
    verdict, asks = run(SURE, table)
    # Four different votes: the fifth cannot make a majority of five.
    assert [ask.learner for ask in asks] == [0, 1, 2, 3, 0, 1, 2]
    assert verdict is not None
    assert (verdict.prediction, verdict.gate, verdict.reason) == (3, 1, "quorum")


def test_a_dead_learner_shrinks_the_quorum() -> None:
    table = np.stack([said(1), said(2), said(2)])
    events = iter([Gone(0)])
    verdict, asks = run(SURE, table, next_event=lambda coming: next(events, None) or coming.pop())
    assert [ask.learner for ask in asks] == [0, 1, 2]
    assert verdict is not None
    assert (verdict.prediction, verdict.votes, verdict.asked, verdict.reason) == (2, 2, 3, "quorum")


def test_what_was_said_before_dying_counts_and_afterwards_does_not() -> None:
    table = np.stack([said(1, 1), said(2, 2), said(2, 1)])
    late = [
        Opinion(0, 0, table[0, 0], 1),
        Gone(0),
        Opinion(1, 0, table[1, 0], 1),
        Opinion(0, 1, table[0, 1], 1),
        Opinion(2, 0, table[2, 0], 1),
        Opinion(1, 1, table[1, 1], 1),
        Opinion(2, 1, table[2, 1], 1),
    ]
    verdict, _ = run(NEVER, table, parallel=True, next_event=lambda coming: late.pop(0))
    assert verdict is not None
    assert (verdict.gate, verdict.votes, verdict.macs) == (1, 2, 5)


def test_nobody_left_answers_from_the_deepest_gate_and_nobody_at_all_gives_nothing() -> None:
    table = np.stack([said(1, 1), said(1, 1)])
    late: list[Event] = [Opinion(0, 0, table[0, 0], 1), Gone(1), Gone(0)]
    verdict, _ = run(NEVER, table, next_event=lambda coming: late.pop(0))
    assert verdict is not None
    assert (verdict.prediction, verdict.gate, verdict.votes, verdict.reason) == (1, 0, 1, "shrunk")
    gone: list[Event] = [Gone(0), Gone(1)]
    assert run(NEVER, table, next_event=lambda coming: gone.pop(0))[0] is None
    assert run(NEVER, table, next_event=lambda coming: None)[0] is None


def test_the_deadline_takes_the_deepest_gate_so_far() -> None:
    table = np.stack([said(1, 2), said(1, 1), said(3, 3)])
    late: list[Event] = [Opinion(0, 0, table[0, 0], 1), Opinion(0, 1, table[0, 1], 1), None]
    verdict, _ = run(SURE, table, parallel=True, next_event=lambda coming: late.pop(0))
    assert verdict is not None
    assert (verdict.prediction, verdict.gate, verdict.votes, verdict.reason) == (2, 1, 1, "deadline")
    assert verdict.asked == 3


def test_an_early_opinion_costs_nothing_and_votes_from_its_gate_on() -> None:
    table = np.stack([said(1, 1), said(2, 2), said(0, 0)])
    early = [Opinion(1, 1, said(2)[0], 999)]
    verdict, asks = run(SURE, table, order=[0, 1, 2], early=early)
    # At gate 0 learners 0 and 2 differ; at gate 1 the early opinion joins them.
    assert {ask.learner for ask in asks} == {0, 2}
    assert verdict is not None
    assert (verdict.gate, verdict.votes, verdict.asked, verdict.macs) == (1, 3, 3, 202)
    agreed, asks = run(SURE, table, order=[0, 2], early=[Opinion(1, 0, said(1)[0], 0)])
    assert asks == [Ask(0, 0, 0)]
    assert agreed is not None
    assert (agreed.prediction, agreed.votes, agreed.asked) == (1, 2, 2)


def test_an_early_opinion_stands_where_everybody_else_is_gone() -> None:
    table = np.stack([said(1, 1)])
    verdict, _ = run(NEVER, table, early=[Opinion(7, 0, said(3)[0], 0)], next_event=lambda coming: Gone(0))
    assert verdict is not None
    assert (verdict.prediction, verdict.gate, verdict.reason) == (3, 0, "shrunk")


OPINIONS = st.builds(
    lambda seed, learners, gates: (
        np.random.default_rng(seed).dirichlet(np.full(3, 0.6), (learners, gates)).astype(np.float16)
    ).astype(np.float32),
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 4),
)
RULES = st.builds(
    QuorumRule,
    alpha=st.sampled_from([0.0, 0.01, 0.1, 0.4]),
    compare=st.sampled_from(["runner_up", "others", "dissenters"]),
    confidence=st.sampled_from([0.5, 0.9]),
)


def shuffled(seed: int) -> Callable[[list[Event]], Event]:
    draws = np.random.default_rng(seed)
    return lambda coming: coming.pop(int(draws.integers(len(coming))))


@settings(max_examples=60)
@given(OPINIONS, RULES, st.integers(0, 2**31), st.booleans())
def test_who_is_faster_does_not_matter(
    table: np.ndarray, rule: QuorumRule, seed: int, with_early: bool
) -> None:
    early = [Opinion(99, seed % table.shape[1], table[0, 0], 0)] if with_early else []
    one, _ = run(rule, table, early=early)
    for parallel in (False, True):
        other, _ = run(rule, table, parallel=parallel, early=early, next_event=shuffled(seed))
        assert one is not None
        assert other is not None
        assert (other.prediction, other.gate, other.votes, other.margin) == (
            one.prediction,
            one.gate,
            one.votes,
            one.margin,
        )
        assert other.asked >= one.asked


@settings(max_examples=60)
@given(OPINIONS, RULES, st.integers(0, 2**31), st.booleans(), st.booleans())
def test_any_course_of_events_ends(
    table: np.ndarray, rule: QuorumRule, seed: int, parallel: bool, with_early: bool
) -> None:
    draws = np.random.default_rng(seed)
    heard: list[Event] = []

    def any_event(coming: list[Event]) -> Event:
        kind = draws.random()
        if not coming or kind < 0.2:
            event: Event = Gone(int(draws.integers(len(table))))
        elif kind < 0.25:
            event = None
        else:
            event = coming.pop(int(draws.integers(len(coming))))
        heard.append(event)
        return event

    early = [Opinion(50, 0, table[0, -1], 0)] if with_early else []
    verdict, _ = run(rule, table, parallel=parallel, early=early, next_event=any_event)
    gone = {event.learner for event in heard if isinstance(event, Gone)}
    if verdict is None:
        assert not early
        assert not any(isinstance(event, Opinion) for event in heard) or gone
    else:
        assert 0 <= verdict.prediction < 3
        assert 0 <= verdict.gate < table.shape[1]
        assert 1 <= verdict.votes <= len(table) + 1
        assert (verdict.reason == "deadline") == (None in heard)
        assert verdict.reason != "shrunk" or gone >= set(range(len(table)))
