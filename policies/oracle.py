"""The oracle: decides with the channel's path and this sample's margins and predictions before it. Clairvoyant.

It never sees a label; `label_oracle` tables do, and are printed apart. Both take the best Decision for the request at
hand, on the device's own link and the medium as it stands; what the request does to others is not reckoned, so it is
a bound only where requests do not load each other. Budgets are prices on costs, the best constant ones in hindsight.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

from ..channel.link import Link
from ..channel.mahimahi import MahimahiMedium
from ..channel.medium import FifoMedium, Medium
from .budgets import Budgets
from .decision import Decision
from .observation import Observation
from .oracle_tables import OracleTables, Way
from .policy import Outcome
from .rules import energy_j, utility

__all__ = ["Oracle", "Sight"]

_INFINITY = math.inf


class Sight(NamedTuple):
    """What only virtual time can show: a device's link, the media, its arrivals and samples, one a request."""

    link: Link
    uplink: Medium
    downlink: Medium
    arrivals: Sequence[float]
    samples: Sequence[int]


class _Case(NamedTuple):
    """How a request would end: seconds from the decision, joules, seconds on the air."""

    correct: float
    latency_s: float
    energy_j: float
    airtime_s: float


class Oracle:
    """One device's oracle.

    prices   on each active budget, utility per unit of the budget: the multipliers
    """

    learns = False

    def __init__(
        self, tables: OracleTables, sight: Sight, budgets: Budgets, prices: Sequence[float] = ()
    ) -> None:
        self._tables = tables
        self._sight = sight
        self._names = budgets.active
        limits = budgets.limits.tolist()
        self._prices = [p / limit for p, limit in zip(prices or [0.0] * len(limits), limits, strict=True)]
        self._request = 0

    def decide(self, observation: Observation) -> Decision:
        sight, tables, request = self._sight, self._tables, self._request
        self._request += 1
        weights = tables.deployment.weights
        waited_s = weights.deadline_s - observation.time_left_s
        start_s = sight.arrivals[request] + waited_s
        sample = sight.samples[request]
        best, best_value = tables.ways(sample)[0], -_INFINITY
        for way in tables.ways(sample):
            case = self._case(way, sample, start_s, observation, request + 1)
            late = float(case.latency_s > observation.time_left_s)
            value = utility(case.correct, case.latency_s, case.energy_j, case.airtime_s, late, weights)
            value -= weights.latency * observation.device_queue * case.latency_s / weights.deadline_s
            for name, price in zip(self._names, self._prices, strict=True):
                cost = getattr(case, name)
                value -= price * cost * ((1 + observation.device_queue) if name == "latency_s" else 1)
            if value > best_value:
                best, best_value = way, value
        return best.decision

    def learn(self, outcome: Outcome) -> None:
        """Nothing to learn."""

    def reset(self, seed: int) -> None:
        self._request = 0

    def _case(
        self, way: Way, sample: int, start_s: float, observation: Observation, request_id: int
    ) -> _Case:
        d = self._tables.deployment
        last_s = observation.time_left_s - d.slack_s
        block_s = self._tables.times(way.decision.keep)
        head_s = block_s[way.cut]
        if way.cut > self._tables.first_exit and head_s > last_s:
            return self._stopped(way, sample, last_s)
        if way.local:
            return _Case(way.correct, head_s, d.power.cpu_w * head_s, 0.0)
        reserve_s = max(0.0, block_s[self._tables.first_exit] - head_s)
        answer_by_s = last_s - reserve_s
        if not observation.link_up or head_s + d.overhead_s >= answer_by_s:
            return self._fallback(way, head_s, 0.0)
        sent_s = start_s + head_s + d.overhead_s
        up = _peek(self._sight.uplink, sent_s, self._sight.link, way.nbytes, 2 * request_id)
        if up is None:
            return self._fallback(way, answer_by_s, max(0.0, answer_by_s - head_s))
        done_s, up_s = up
        half_s = 0.5 * self._sight.link.round_trip_s
        replied_s = done_s + half_s + way.server_s
        down = _peek(
            self._sight.downlink, replied_s, self._sight.link, self._tables.reply_bytes, 2 * request_id + 1
        )
        if down is None or down[0] + half_s - start_s > answer_by_s:
            return self._fallback(way, answer_by_s, max(0.0, answer_by_s - head_s))
        latency_s = down[0] + half_s - start_s
        wait_s = max(0.0, latency_s - head_s - up_s - down[1])
        energy = energy_j(d.power, head_s, up_s, down[1], wait_s)
        return _Case(way.correct, latency_s, energy, up_s + down[1])

    def _fallback(self, way: Way, until_s: float, tried_s: float) -> _Case:
        """No reply: the best exit so far answers, after running to the first one if need be."""
        d = self._tables.deployment
        block_s = self._tables.times(way.decision.keep)
        head_s = block_s[max(way.cut, self._tables.first_exit)]
        reserve_s = head_s - block_s[way.cut]
        energy = energy_j(d.power, head_s, tried_s, 0.0, 0.0)
        return _Case(way.fallback_correct, until_s + reserve_s, energy, tried_s)

    def _stopped(self, way: Way, sample: int, last_s: float) -> _Case:
        """The deadline stops the device on its way to the cut: the last exit that it reached answers."""
        block_s = self._tables.times(way.decision.keep)
        reached = [cut for cut in self._tables.exits if cut <= way.cut and block_s[cut] <= last_s]
        cut = reached[-1] if reached else self._tables.first_exit
        correct = self._tables.head_correct(sample, self._tables.exits.index(cut), way.decision.keep)
        power = self._tables.deployment.power
        return _Case(correct, block_s[cut], power.cpu_w * block_s[cut], 0.0)


def _peek(medium: Medium, now_s: float, link: Link, nbytes: int, key: int) -> tuple[float, float] | None:
    """(end, airtime) of a transfer if it were submitted at `now_s`; None if an outage swallows it.

    Media that settle late, and those with a line for each device, are taken as idle.
    """
    settled = isinstance(medium, FifoMedium | MahimahiMedium)
    trial = copy.copy(medium) if settled else FifoMedium()
    transfer = trial.submit(now_s, link, nbytes, key)
    if transfer is None or transfer.done_s == _INFINITY:
        return None
    return transfer.done_s, transfer.airtime_s
