"""Walks over a Profile, and the policies that decide by them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from splitpoint.device.agent import Agent
from splitpoint.device.effects import Reading, Reply, RunBlocks
from splitpoint.errors import UsageError
from splitpoint.models.card import read_card
from splitpoint.models.profile import Profile
from splitpoint.models.store import resolve
from splitpoint.policies.decision import Decision
from splitpoint.policies.greedy import Greedy, GreedyTables
from splitpoint.policies.guard import GuardedPolicy
from splitpoint.policies.observation import Observation
from splitpoint.policies.outcomes import walk
from splitpoint.policies.policy import Outcome
from splitpoint.policies.replay import Replay
from splitpoint.policies.static import Static
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

SETUP = Setup(load_scenario("quickstart"))
CARD = read_card(resolve("clutter"))
GOOD = Observation(15.0, 5e6, 1.0, 0.01, 0, 0.0, math.inf, 0.3, True)
LOCAL = Outcome(Decision(6), 6, False, False, False, 1.0, 0.1, 0.1, 0.0, 0)


@pytest.fixture(scope="module")
def tables() -> GreedyTables:
    return GreedyTables(SETUP.calibration, SETUP.deployment(0), (0.5, 0.95))


def _by_the_agent(profile: Profile, decision: Decision, sample: int) -> tuple[bool, int, int]:
    """(local, cut, exit) as the agent's generator goes."""
    agent = Agent(profile.card.exits, tuple(range(profile.card.depth + 1)), 0.0)
    generator = agent.answer(decision, 0.0, 1e9, True)
    result: Any = None
    try:
        while True:
            effect = generator.send(result)
            if isinstance(effect, RunBlocks):
                exit = agent.exit_at.get(effect.stop)
                margin = None if exit is None else float(profile.head_margin[sample, exit])
                found = None if exit is None or margin is None else Reading(0, margin, exit)
                result = 0.0, found
            else:
                config = profile.config(effect.cut, decision.keep, decision.dims, decision.bits)
                margins = profile.tail_margin[config, sample]
                later = [e for e, after in enumerate(profile.card.exits) if after > effect.cut]
                exit = next((e for e in later if margins[e] >= decision.exit_margin), later[-1])
                result = 0.0, Reply(0, float(margins[exit]), exit)
    except StopIteration as stopped:
        answer = stopped.value
        return answer.local, answer.cut, answer.exit


@pytest.mark.parametrize(
    "decision",
    [
        Decision(0, exit_margin=0.9),
        Decision(6, exit_margin=0.999),
        Decision(3, 0.25, 24, 2, exit_margin=0.99),
        Decision(5, 0.125, 48, 4, exit_margin=0.9999, offload_slope=0.001),
        Decision(4, 1.0, 0, 8),
    ],
    ids=lambda decision: decision.label(),
)
def test_walk_and_agent_go_the_same_way(decision: Decision) -> None:
    profile = SETUP.calibration
    outcomes = walk(profile, decision)
    for sample in range(0, len(profile.labels), 9):
        expected = _by_the_agent(profile, decision, sample)
        assert (
            bool(outcomes.local[sample]),
            int(outcomes.cut[sample]),
            int(outcomes.exit[sample]),
        ) == expected
    assert ((outcomes.nbytes == 0) == outcomes.local).all()


def test_greedy_sends_on_a_good_link_and_stays_local_on_none(tables: GreedyTables) -> None:
    greedy = Greedy(tables)
    assert greedy.decide(GOOD).split < 2
    assert greedy.decide(GOOD._replace(link_up=False)).split >= 2
    assert greedy.decide(GOOD._replace(rate_bps=2e3)).split >= 2
    assert (
        greedy.decide(GOOD._replace(rate_bps=math.nan, rate_sigma_db=math.nan, round_trip_s=math.nan))
        is not None
    )


def test_greedy_sends_fewer_bytes_as_the_rate_falls(tables: GreedyTables) -> None:
    profile = SETUP.calibration
    sizes = [
        walk(profile, Greedy(tables).decide(GOOD._replace(rate_bps=rate))).nbytes.mean()
        for rate in (5e6, 3e5, 2e3)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_greedy_tries_a_link_again_that_it_left_alone(tables: GreedyTables) -> None:
    greedy, bad = Greedy(tables, explore_after=3), GOOD._replace(rate_bps=2e3)
    splits = []
    for _ in range(4):
        splits.append(greedy.decide(bad).split)
        greedy.learn(LOCAL)
    assert min(splits[:3]) >= 2
    assert splits[3] < 2


def test_a_link_that_stays_bad_is_tried_ever_more_seldom(tables: GreedyTables) -> None:
    greedy, bad = Greedy(tables, explore_after=2), GOOD._replace(rate_bps=2e3)
    tried = []
    for request in range(60):
        sends = greedy.decide(bad).split < 2
        tried += [request] * sends
        greedy.learn(LOCAL._replace(offloaded=sends))
    assert np.diff(tried).tolist() == [5, 9, 17, 17]
    # Once something is sent of its own accord, a bad link is tried as soon as at first.
    assert greedy.decide(GOOD).split < 2
    greedy.learn(LOCAL._replace(offloaded=True))
    for _ in range(2):
        assert greedy.decide(bad).split >= 2
        greedy.learn(LOCAL)
    assert greedy.decide(bad).split < 2


def test_calibration_is_not_taken_from_the_evaluation_profile() -> None:
    with pytest.raises(UsageError, match="evaluation profile"):
        GreedyTables(SETUP.evaluation, SETUP.deployment(0), (0.5,))


class _Bad:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def decide(self, observation: Observation) -> Any:
        return self._answer() if callable(self._answer) else self._answer

    def learn(self, outcome: Outcome) -> None:
        raise ValueError("cannot learn")

    def reset(self, seed: int) -> None:
        pass


@pytest.mark.parametrize(
    "answer", [lambda: 1 / 0, lambda: Decision(1, math.nan), None, math.nan, Decision(7)]
)
def test_a_bad_policy_is_replaced_and_counted(answer: Any) -> None:
    safe = Decision(6)
    guarded = GuardedPolicy(_Bad(answer), CARD, safe)
    assert guarded.decide(GOOD) is safe
    guarded.learn(LOCAL)
    assert guarded.replaced == 1
    assert guarded.replaced_last
    guarded.reset(0)
    assert guarded.replaced == 0


def test_replay_gives_what_was_recorded_and_no_more() -> None:
    decisions = [Decision(1), Decision(2)]
    replay = Replay(decisions)
    found = []
    for _ in decisions:
        found.append(replay.decide(GOOD))
        replay.learn(LOCAL)
    assert found == decisions
    with pytest.raises(UsageError, match="2 decisions"):
        replay.decide(GOOD)
    replay.reset(0)
    assert replay.decide(GOOD) == decisions[0]
    assert np.isfinite(Static(decisions[0]).decide(GOOD).split)


def test_replay_goes_on_behind_the_requests_that_one_decision_merged() -> None:
    merged = Decision(2, merge=0.5)
    replay = Replay([merged, merged, merged, Decision(3)])
    assert replay.decide(GOOD) == merged
    for _ in range(3):
        replay.learn(LOCAL)
    assert replay.decide(GOOD) == Decision(3)
