"""What a request costs its device."""

from __future__ import annotations

import math

import pytest

from splitpoint.device.accounting import Trip, costs, joined
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


def two_messages() -> tuple[Trip, Trip]:
    first = Trip(0.03, 1000, 70, 0.025, 0.01, 0.012, 0.02, 0.01, 1.0, 9.0, 1e6)
    second = Trip(0.12, 300, 60, 0.006, 0.01, 0.012, 0.005, 0.01, 2.0, 8.0, 9e5)
    return first, second


def test_a_refined_request_is_charged_for_both_messages() -> None:
    answer = answered(local=False, done_s=0.2)
    trip = joined(*two_messages(), answer, 0.5)
    assert (trip.uplink_bytes, trip.downlink_bytes) == (1300, 130)
    assert (trip.uplink_s, trip.server_s, trip.downlink_s) == pytest.approx((0.031, 0.02, 0.024))
    assert (trip.load, trip.snr_db, trip.rate_bps) == (2.0, 8.0, 9e5)
    cost = costs(answer, trip, 0.03, 0.5, POWER)
    assert (cost.airtime_up_s, cost.airtime_down_s) == pytest.approx((0.025, 0.02))
    wait_s = 0.2 - 0.03 - 0.025 - 0.02
    assert cost.energy_j == pytest.approx(2.0 * 0.03 + 0.025 + 0.5 * 0.02 + 0.1 * wait_s)


def test_a_lost_refinement_is_charged_for_all_that_the_radio_tried() -> None:
    first, _ = two_messages()
    answer = answered(local=False, done_s=0.5, degraded=True)
    trip = joined(first, Trip(0.12, 300, 60), answer, 0.49)
    assert (trip.uplink_bytes, trip.downlink_bytes, trip.load) == (1300, 70, 1.0)
    cost = costs(answer, trip, 0.03, 0.49, POWER)
    assert (cost.airtime_up_s, cost.airtime_down_s) == pytest.approx((0.02 + 0.37, 0.01))
