"""One device's memory from request to request: policy, estimate of the link, battery.

Both drivers use it, so that what a policy sees and is charged does not depend on the engine.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from ..channel.report import Modem
from ..codec.adc import MOST_GROUPS
from ..policies.decision import Decision
from ..policies.estimate import LinkEstimate
from ..policies.guard import GuardedPolicy
from ..policies.observation import Observation
from ..policies.policy import Outcome
from ..policies.rules import Power
from .accounting import Costs, Trip, costs, joined, share, shared_costs
from .agent import Agent
from .batch import answer_batch
from .effects import Answer, BatchEffect, Effect

__all__ = ["Finished", "Session"]


class Finished(NamedTuple):
    """One answered request with all that is known of it but its label."""

    arrival_s: float
    start_s: float
    answer: Answer
    trip: Trip | None
    costs: Costs
    observation: Observation
    policy_replaced: bool


# With a tuple of all fields: several times cheaper than a NamedTuple's constructor.
_new = tuple.__new__


class Session:
    """Serves one request at a time: `begin`, the driver's effects with `sent` and `replied`, `finish`.

    modem     None: it reports with replies only
    link_up   False while the server is known to be out of reach
    """

    def __init__(
        self,
        agent: Agent,
        policy: GuardedPolicy,
        power: Power,
        *,
        deadline_s: float,
        coherence_s: float,
        battery_j: float,
        modem: Modem | None = None,
    ) -> None:
        self.agent = agent
        self.link_up = True
        self._policy = policy
        self._power = power
        self._deadline_s = deadline_s
        self._modem = modem
        self._estimate = LinkEstimate(coherence_s)
        self._energy_left_j = battery_j
        self._arrival_s = self._start_s = self._answer_by_s = 0.0
        self._trip: Trip | None = None
        self._first: Trip | None = None
        self._observation: Observation
        self._decision: Decision
        self.batch = 1

    def observe(self, now_s: float, arrival_s: float, queue: int) -> Observation:
        """What is known now of the request that arrived at `arrival_s`; `queue` wait behind it."""
        estimate = self._estimate
        if self._modem is not None:
            estimate.heard(self._modem(now_s))
        snr_db, rate_bps, rate_sigma_db = estimate.at(now_s)
        return _new(
            Observation,
            (
                snr_db,
                rate_bps,
                rate_sigma_db,
                estimate.round_trip_s,
                queue,
                estimate.server_load,
                self._energy_left_j,
                arrival_s + self._deadline_s - now_s,
                self.may_send,
            ),
        )

    def begin(
        self, start_s: float, arrival_s: float, queue: int, observation: Observation | None = None
    ) -> Generator[Effect, Any, Answer]:
        """Decide on the request that arrived at `arrival_s` and start its agent; `queue` wait behind it.

        observation  what `observe` said just now, where the policy was asked beforehand; None: it is made here
        """
        self._arrival_s, self._start_s, self._trip, self._first = arrival_s, start_s, None, None
        self._observation = observation or self.observe(start_s, arrival_s, queue)
        self._decision = decision = self._policy.decide(self._observation)
        return self.agent.answer(decision, start_s, arrival_s + self._deadline_s, self.may_send)

    def begin_batch(
        self,
        start_s: float,
        arrival_s: float,
        queue: int,
        count: int,
        observation: Observation | None = None,
    ) -> Generator[BatchEffect, Any, list[Answer]] | Generator[Effect, Any, Answer]:
        """As `begin`, for the first of `count` requests of one arrival: for as many as one message may merge where the
        Decision lets them be merged, else for one alone. `batch` says how many."""
        single = self.begin(start_s, arrival_s, queue, observation)
        decision = self._decision
        self.batch = int(min(count, MOST_GROUPS / decision.merge)) if decision.merges else 1
        if self.batch == 1:
            return single
        due_s = arrival_s + self._deadline_s
        return answer_batch(self.agent, decision, self.batch, start_s, due_s, self.may_send)

    def spare_s(self, observation: Observation) -> float:
        """How long a policy may be waited for, so that the first exit can still answer in time."""
        agent = self.agent
        return observation.time_left_s - agent.slack_s - agent.block_s[agent.exits[0]]

    @property
    def may_send(self) -> bool:
        """False while the server is out of reach, or the modem hears nothing."""
        return self.link_up and self._estimate.signal

    @property
    def snr_db(self) -> float:
        """The estimate that the newest request was decided by; NaN where there was none."""
        return self._observation.snr_db

    def sent(self, trip: Trip, answer_by_s: float) -> None:
        """The request, or its refinement, is on its way; the driver fills in the trip."""
        self._first, self._trip = self._trip, trip
        self._answer_by_s = answer_by_s

    def replied(self, now_s: float) -> None:
        """The reply is here: learn about the link from its trip."""
        trip = self._trip
        assert trip is not None
        estimate = self._estimate
        elapsed_s = now_s - trip.sent_s
        on_air_s = trip.airtime_up_s + trip.airtime_down_s
        round_trip_s = elapsed_s - trip.server_s - (on_air_s if on_air_s == on_air_s else 0.0)
        if trip.rate_bps == trip.rate_bps:
            estimate.report(now_s, trip.snr_db, trip.rate_bps)
        elif not trip.channel_uses:
            round_trip_s = estimate.measured(now_s, trip.uplink_bytes, elapsed_s - trip.server_s)
        estimate.reply(round_trip_s, trip.load)

    def lost(self, now_s: float) -> None:
        """No reply came, and the link is the likely reason."""
        trip = self._trip
        assert trip is not None
        self.link_up = False
        if not trip.channel_uses:
            self._estimate.no_reply(now_s, trip.uplink_bytes, now_s - trip.sent_s)

    def finish(self, answer: Answer) -> Finished:
        """Charge the device and tell the policy."""
        trip = self._trip
        if self._first is not None and trip is not None:
            trip = self._trip = joined(self._first, trip, answer, self._answer_by_s)
        policy = self._policy
        head_s = self.agent.times(self._decision.keep)[answer.cut]
        cost = costs(answer, trip, head_s, self._answer_by_s, self._power)
        self._energy_left_j -= cost.energy_j
        if policy.learns:
            policy.learn(self._outcome(answer, cost))
        return _new(
            Finished,
            (self._arrival_s, self._start_s, answer, trip, cost, self._observation, policy.replaced_last),
        )

    def finish_batch(self, answers: Sequence[Answer]) -> list[Finished]:
        """As `finish`, for every request of a batch; what was sent is shared by those that it carried."""
        whole, finished = self._trip, []
        count, place = sum(answer.offloaded for answer in answers), 0
        for answer in answers:
            trip = None
            if whole is not None and answer.offloaded:
                trip = share(whole, place, count)
                place += 1
            head_s = self.agent.times(answer.decision.keep)[answer.cut]
            sent = whole if answer.offloaded else None
            cost = shared_costs(answer, sent, max(1, count), head_s, self._answer_by_s, self._power)
            self._energy_left_j -= cost.energy_j
            self._trip = trip
            if self._policy.learns:
                self._policy.learn(self._outcome(answer, cost))
            finished.append(
                Finished(
                    self._arrival_s,
                    self._start_s,
                    answer,
                    trip,
                    cost,
                    self._observation,
                    self._policy.replaced_last,
                )
            )
        return finished

    def _outcome(self, answer: Answer, cost: Costs) -> Outcome:
        latency_s = answer.done_s - self._arrival_s
        return Outcome(
            answer.decision,
            answer.cut,
            answer.offloaded,
            answer.degraded,
            latency_s > self._deadline_s,
            answer.margin,
            latency_s,
            cost.energy_j,
            cost.airtime_up_s + cost.airtime_down_s,
            0 if self._trip is None else self._trip.uplink_bytes,
        )
