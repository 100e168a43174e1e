"""What a request costs its device."""

from __future__ import annotations

import math

import pytest

from splitpoint.device.accounting import Trip, costs
from splitpoint.device.effects import Answer
from splitpoint.policies.decision import Decision
from splitpoint.policies.rules import Power

POWER = Power(cpu_w=2.0, tx_w=1.0, rx_w=0.5, idle_w=0.1)


def answered(*, local: bool, done_s: float, offloaded: bool = True, degraded: bool = False) -> Answer:
    return Answer(Decision(2), 1, 0.5, 0, 2, offloaded, local, degraded, done_s)


def test_a_local_answer_costs_its_computing() -> None:
    cost = costs(answered(local=True, done_s=0.04, offloaded=False), None, 0.03, 0.5, POWER)
    assert cost == (0.03, 0.0, 0.0, pytest.approx(0.06))


def test_a_reply_costs_air_both_ways_and_the_wait_between() -> None:
    trip = Trip(0.03, 1000, 60, airtime_up_s=0.02, airtime_down_s=0.01, server_s=0.01)
    cost = costs(answered(local=False, done_s=0.1), trip, 0.03, 0.5, POWER)
    wait_s = 0.1 - 0.03 - 0.02 - 0.01
    assert cost.energy_j == pytest.approx(2.0 * 0.03 + 0.02 + 0.5 * 0.01 + 0.1 * wait_s)
    assert (cost.airtime_up_s, cost.airtime_down_s) == (0.02, 0.01)


@pytest.mark.parametrize(("done_s", "tried_s"), [(0.5, 0.37), (0.1, 0.07)])
def test_where_no_reply_came_the_radio_is_charged_for_all_that_it_tried(
    done_s: float, tried_s: float
) -> None:
    answer = answered(local=True, done_s=done_s, degraded=True)
    cost = costs(answer, Trip(0.03, 1000), 0.03, 0.4, POWER)
    assert cost.airtime_up_s == pytest.approx(tried_s)
    assert cost.airtime_down_s == 0.0
    assert cost.energy_j == pytest.approx(2.0 * 0.03 + tried_s)


def test_a_trip_that_was_never_sent_costs_no_negative_time() -> None:
    cost = costs(answered(local=True, done_s=0.5, degraded=True), Trip(0.45, 1000), 0.03, 0.4, POWER)
    assert cost.airtime_up_s == 0.0
    assert not math.isnan(cost.energy_j)
