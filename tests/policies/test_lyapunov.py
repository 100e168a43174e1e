"""Lyapunov control: the bound on every path, O(1/V) and O(V) on an i.i.d. channel, budgets kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.policies.budgets import Budgets
from splitpoint.policies.decision import Decision
from splitpoint.policies.greedy import Greedy, GreedyTables
from splitpoint.policies.iid_channel import IidChannel, best_within
from splitpoint.policies.lyapunov import Lyapunov, drift_plus_penalty, predicted_costs
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome
from splitpoint.policies.predicted import Prediction
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

SETUP = Setup(load_scenario("quickstart"))
GOOD = Observation(15.0, 5e6, 1.0, 0.01, 0, 0.0, math.inf, 0.3, True)
BUDGETS = Budgets(latency_s=0.1, energy_j=0.12, airtime_s=0.008)


TABLES = GreedyTables(
    SETUP.calibration, SETUP.deployment(0), (0.5, 0.95), [(0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 4.0)]
)


_COSTS = st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 0.2), st.floats(3.0, 8.0))


@settings(max_examples=30)
@given(
    st.lists(_COSTS, min_size=1, max_size=30),
    st.floats(0.1, 100.0),
    st.floats(0.05, 3.0),
    st.floats(0.0, 2.0),
)
def test_on_every_path_the_excess_is_at_most_the_growth_of_the_queue(
    path: list[tuple[float, float, float, float]], v: float, step: float, price: float
) -> None:
    """Whatever the requests really cost, and whatever is decided."""
    policy = Lyapunov(TABLES, BUDGETS, v=v, step=step, start=price * v)
    policy.reset(0)
    begun = policy.queues.backlog.copy()
    spent = []
    for latency_s, energy_j, airtime_s, log_rate in path:
        decision = policy.decide(GOOD._replace(rate_bps=10.0**log_rate))
        outcome = Outcome(decision, 1, True, False, False, 1.0, latency_s, energy_j, airtime_s, 100)
        policy.learn(outcome)
        spent.append([latency_s / 0.1, energy_j / 0.12, airtime_s / 0.008])
    excess = np.mean(spent, axis=0) - 1.0
    assert (excess <= (policy.queues.backlog - begun) / (step * len(path)) + 1e-9).all()


def test_costs_are_in_units_of_the_budgets_and_latency_counts_for_all_that_wait() -> None:
    prediction = Prediction(
        np.array([0.5, 0.9]), np.array([0.2, 0.4]), np.array([0.3, 0.6]), np.array([0.02, 0.0])
    )
    costs = predicted_costs(prediction, BUDGETS, 3)
    np.testing.assert_allclose(costs, [[4 * 2.0, 4 * 4.0], [2.5, 5.0], [2.5, 0.0]])
    np.testing.assert_allclose(predicted_costs(prediction, Budgets(airtime_s=0.01), 3), [[2.0, 0.0]])
    found = drift_plus_penalty(prediction.utility, costs, np.array([1.0, 10.0, 100.0]), 40.0)
    np.testing.assert_allclose(found, [20.0 - 8.0 - 25.0 - 250.0, 36.0 - 16.0 - 50.0])


def test_without_budgets_it_is_greedy() -> None:
    lyapunov, greedy = Lyapunov(TABLES, Budgets()), Greedy(TABLES)
    for rate_bps in np.logspace(3, 7, 20):
        seen = GOOD._replace(rate_bps=float(rate_bps))
        assert lyapunov.decide(seen) == greedy.decide(seen)


def test_a_link_that_became_good_is_found_even_while_a_budget_is_overdrawn() -> None:
    policy = Lyapunov(TABLES, Budgets(energy_j=0.1), explore_after=4)
    bad, good = GOOD._replace(rate_bps=2e4), GOOD._replace(rate_bps=3e6)
    link, sent = bad, []
    for request in range(200):
        decision = policy.decide(link)
        # Answers on the device overspend, and what the link is like is seen by what is sent only.
        local = decision.split == 6
        outcome = Outcome(decision, 6, not local, False, False, 1.0, 0.1, 0.22 if local else 0.01, 0.0, 0)
        policy.learn(outcome)
        sent.append(not local)
        link = good if request > 20 and not local else link
    # While a budget is overdrawn it is tried as seldom as a link that was tried in vain again and again.
    assert sent.index(True) == 8 * 4
    assert sum(sent[100:]) > 80


def test_a_longer_queue_sends_less() -> None:
    policy = Lyapunov(TABLES, Budgets(airtime_s=0.001), v=1.0, explore_after=1000)
    before = policy.decide(GOOD)
    for _ in range(200):
        policy.learn(Outcome(before, 0, True, False, False, 1.0, 0.1, 0.1, 0.02, 3000))
    assert before.split == 0
    assert policy.decide(GOOD).split > 0
    policy.reset(0)
    assert policy.decide(GOOD) == before


def test_reset_puts_back_the_price_known_beforehand() -> None:
    policy = Lyapunov(TABLES, BUDGETS, start=[1.0, 2.0, 3.0])
    policy.learn(Outcome(Decision(6), 6, False, False, False, 1.0, 9.0, 9.0, 9.0, 0))
    assert not np.array_equal(policy.queues.backlog, [1.0, 2.0, 3.0])
    policy.reset(0)
    np.testing.assert_array_equal(policy.queues.backlog, [1.0, 2.0, 3.0])


VS = (40.0, 80.0, 160.0, 320.0, 640.0)


def test_gap_falls_as_one_over_v_and_backlog_grows_as_v() -> None:
    """Neely's theorem on an i.i.d. channel: U* - U <= B / V, and a backlog proportional to V; five values of V."""
    channel = IidChannel(TABLES.predicted, Budgets(airtime_s=0.006), requests=20_000, seed=3)
    best, price = best_within(channel)
    results = [channel.control(v) for v in VS]
    gaps = np.array([best - result.utility for result in results])
    backlogs = np.array([result.mean_backlog for result in results])
    # Theory's constant B is half the second moment of the excess, and an upper bound only.
    assert (gaps <= 0.5 * channel.second_moment / np.array(VS)).all()
    # O(1/V): twice V, half the gap, within a quarter.
    np.testing.assert_allclose(gaps * VS, np.mean(gaps * VS), rtol=0.25)
    # O(V): Z / V comes to the price of the budget, so the backlog grows by the price times V.
    slope = np.polyfit(VS, backlogs, 1)[0]
    assert slope == pytest.approx(price, rel=0.15)
    for result in results:
        assert result.cost - 1.0 <= result.last_backlog / channel.requests + 1e-9
