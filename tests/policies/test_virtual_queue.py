"""Virtual queues: the bound on every path, and pressure that makes up for what a path overspent."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.policies.budgets import Budgets
from splitpoint.policies.decision import Decision
from splitpoint.policies.policy import Outcome
from splitpoint.policies.virtual_queue import VirtualQueues

BUDGETS = Budgets(airtime_s=0.01)


def _spent(airtime_s: float) -> Outcome:
    return Outcome(Decision(1), 1, True, False, False, 1.0, 0.1, 0.1, airtime_s, 100)


@given(st.lists(st.floats(0.0, 0.2), min_size=1, max_size=40), st.floats(0.1, 4.0), st.floats(0.0, 20.0))
def test_the_excess_is_at_most_the_growth_of_the_queue(path: list[float], step: float, debt: float) -> None:
    queues = VirtualQueues(BUDGETS, 3.0, step, debt)
    for airtime_s in path:
        queues.learn(_spent(airtime_s))
    excess = np.mean(path) / 0.01 - 1.0
    assert excess <= (queues.backlog[0] - 3.0) / (step * len(path)) + 1e-9


def test_what_a_path_is_over_its_budget_comes_to_the_price() -> None:
    queues, plain = VirtualQueues(BUDGETS, debt=6.0), VirtualQueues(BUDGETS, debt=0.0)
    for _ in range(200):
        queues.learn(_spent(0.011))
        plain.learn(_spent(0.011))
    # A tenth of a budget over at each of 200 requests: 20 budgets, of which the last 25 requests are not yet felt.
    np.testing.assert_allclose(queues.backlog, 20.0)
    np.testing.assert_array_equal(plain.pressure, plain.backlog)
    np.testing.assert_allclose(queues.pressure, 20.0 + 6.0 * (20.0 - 0.1 * 24.0), rtol=0.01)
    assert queues.overdrawn


def test_what_was_saved_before_is_no_debt() -> None:
    queues = VirtualQueues(BUDGETS)
    for _ in range(5):
        queues.learn(_spent(0.0))
    queues.learn(_spent(0.06))
    # Five budgets saved, five over: the queue forgot the savings, the whole path is not over.
    assert queues.backlog.tolist() == queues.pressure.tolist() == [5.0]
    assert queues.overdrawn
    queues.reset()
    assert queues.pressure.tolist() == [0.0]
    assert not queues.overdrawn
