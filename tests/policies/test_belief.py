"""What policies take for the link where they do not know it, and when they try it again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from splitpoint.policies.belief import Exploration, believed
from splitpoint.policies.decision import Decision
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome

SEEN = Observation(15.0, 5e6, 2.0, 0.01, 0, 0.0, math.inf, 0.3, True)
LOCAL = Outcome(Decision(6), 6, False, False, False, 1.0, 0.1, 0.1, 0.0, 0)
VALUES, SENDS = np.array([3.0, 1.0, 2.0]), np.array([False, True, True])


def test_a_report_has_an_error_however_fresh_it_is() -> None:
    assert believed(SEEN) == (5e6, pytest.approx(math.hypot(2.0, 1.0)), 0.01)
    assert believed(SEEN._replace(rate_sigma_db=0.0)).rate_sigma_db == 1.0


def test_before_the_first_report_anything_may_be() -> None:
    unknown = believed(SEEN._replace(rate_bps=math.nan, rate_sigma_db=math.nan, round_trip_s=math.nan))
    assert unknown == (1e6, pytest.approx(math.hypot(10.0, 1.0)), 0.0)


def test_a_link_that_is_down_carries_next_to_nothing_whatever_was_reported() -> None:
    assert believed(SEEN._replace(link_up=False)) == (1.0, 1.0, 0.01)


def answered_here(exploration: Exploration, count: int) -> None:
    for _ in range(count):
        exploration.learn(LOCAL)


def test_a_link_is_tried_by_the_best_that_sends_and_never_while_it_is_down() -> None:
    exploration = Exploration(3)
    answered_here(exploration, 2)
    assert exploration.best(VALUES, SENDS, True) == 0
    answered_here(exploration, 1)
    assert exploration.best(VALUES, SENDS, True) == 2
    assert exploration.best(VALUES, SENDS, False) == 0
    assert exploration.best(VALUES, np.zeros(3, bool), True) == 0


def test_what_is_not_affordable_is_tried_after_the_longest_wait() -> None:
    exploration = Exploration(3)
    answered_here(exploration, 23)
    assert exploration.best(VALUES, SENDS, True, affordable=False) == 0
    answered_here(exploration, 1)
    assert exploration.best(VALUES, SENDS, True, affordable=False) == 2


def test_a_reset_forgets_what_was_waited_for() -> None:
    exploration = Exploration(3)
    answered_here(exploration, 3)
    exploration.reset()
    assert exploration.best(VALUES, SENDS, True) == 0
    answered_here(exploration, 3)
    assert exploration.best(VALUES, SENDS, True) == 2
    # Tried once, so that the wait is twice as long.
    exploration.learn(LOCAL._replace(offloaded=True))
    answered_here(exploration, 2)
    exploration.reset()
    answered_here(exploration, 3)
    assert exploration.best(VALUES, SENDS, True) == 2
