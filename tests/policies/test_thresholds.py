"""Thresholds from the calibration split: targets are met, budgets kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.errors import UsageError
from splitpoint.models.macs import head_macs
from splitpoint.models.profile import Profile
from splitpoint.models.store import resolve
from splitpoint.policies.decision import Decision
from splitpoint.policies.early_exit import stops
from splitpoint.policies.thresholds import (
    Point,
    calibrated_exits,
    candidates,
    choose,
    offloading,
    repaired,
    sweep,
)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=300), st.integers(1, 20))
def test_candidates_divide_the_scores(values: list[int], count: int) -> None:
    scores = np.array(values, dtype=float)
    found = candidates(scores, count)
    assert (np.diff(found) > 0).all()
    assert (found[0], found[-1]) == (-np.inf, np.inf)
    assert len(found) <= count + 2
    assert not set(found.tolist()) & set(values)
    if len(set(values)) <= count + 1:
        assert len(found) == len(set(values)) + 1


def test_candidates_lie_between_neighbours_of_single_precision() -> None:
    scores = np.array([0.7, np.nextafter(np.float32(0.7), np.float32(1.0))], np.float32)
    assert scores[0] < candidates(scores)[1] < scores[1]


def test_sweep_of_two_samples() -> None:
    scores = np.array([[0.2, 0.9], [0.8, 0.9]])
    right = np.array([[False, True], [True, False]])
    points = sweep(lambda t: stops(scores, t), [0.1, 0.5, 0.95], right, np.array([1.0, 3.0]))
    assert points == [Point(0.1, 0.5, 1.0), Point(0.5, 1.0, 2.0), Point(0.95, 0.5, 3.0)]
    assert choose(points, accuracy=0.7).threshold == 0.5
    assert choose(points, cost=1.5).threshold == 0.1
    with pytest.raises(UsageError, match="the cheapest costs 1"):
        choose(points, cost=0.5)
    with pytest.raises(UsageError, match="one of the two"):
        choose(points)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(1.0, 6.0))
def test_repair_keeps_the_budget_and_spends_it(seed: int, budget: float) -> None:
    scores = np.random.default_rng(seed).random((400, 3))
    cost = np.array([1.0, 3.0, 6.0])
    start = np.array([0.9, 0.8, 0.0])
    found = repaired(scores, cost, start, budget)
    spent = cost[stops(scores, found)].mean()
    assert spent <= budget
    assert (found <= start).all()
    # One more sample going on would cost at most 5 / 400 more.
    assert spent > min(budget, cost[stops(scores, start)].mean()) - 0.02


def test_a_budget_below_the_first_exit_is_refused() -> None:
    with pytest.raises(UsageError, match="first exit"):
        repaired(np.zeros((2, 2)), np.array([2.0, 3.0]), np.array([0.5, 0.5]), 1.0)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.load(resolve("clutter").with_name("clutter.calibration.npz"))


def test_local_and_remote_ends(profile: Profile) -> None:
    card = profile.card
    local = offloading(profile, Decision(card.depth))
    assert local.right.tolist() == (profile.head_prediction[:, -1] == profile.labels).tolist()
    assert not local.nbytes.any()
    assert set(local.device_macs.tolist()) == {head_macs(card, card.depth)}
    sent = offloading(profile, Decision(0))
    place = profile.config(0)
    assert sent.right.tolist() == (profile.tail_prediction[place, :, -1] == profile.labels).tolist()
    assert sent.nbytes.tolist() == profile.request_bytes[place].tolist()
    assert not sent.device_macs.any()


def test_a_margin_just_below_the_threshold_is_sent_as_the_agent_sends_it(profile: Profile) -> None:
    margin = float(profile.head_margin[0, 0])
    one = Decision(
        profile.card.exits[0], 0.5, profile.dims[-1], 4, exit_margin=float(np.nextafter(margin, 2.0))
    )
    assert offloading(profile, one).nbytes[0] > 0
    assert offloading(profile, replace(one, exit_margin=margin)).nbytes[0] == 0


def test_calibrated_exits_meet_the_target_for_less(profile: Profile) -> None:
    start = Decision(4, 0.5, profile.dims[-1], 4)
    always = offloading(profile, start)
    target = float(always.right.mean()) - 0.02
    found = calibrated_exits(profile, start, accuracy=target, macs_per_byte=1e3, count=8)
    after = offloading(profile, found)
    assert after.right.mean() >= target
    assert after.nbytes.mean() < 0.8 * always.nbytes.mean()
    cost = float((after.device_macs + 1e3 * after.nbytes).mean())
    again = offloading(profile, calibrated_exits(profile, start, cost=cost, macs_per_byte=1e3, count=8))
    assert again.right.mean() >= after.right.mean()
    assert (again.device_macs + 1e3 * again.nbytes).mean() <= cost
