"""What a device remembers from request to request, and what it tells its policy."""

from __future__ import annotations

import math
from typing import Any

import pytest

from splitpoint.channel.report import Measurement, Modem
from splitpoint.channel.report import Reading as LinkReading
from splitpoint.device.accounting import Trip
from splitpoint.device.agent import Agent
from splitpoint.device.effects import Answer, Offload, Reading, Reply, RunBlocks
from splitpoint.device.session import Finished, Session
from splitpoint.models.card import read_card
from splitpoint.models.store import resolve
from splitpoint.policies.decision import Decision
from splitpoint.policies.guard import GuardedPolicy
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome
from splitpoint.policies.rules import Power

CARD = read_card(resolve("clutter"))
BLOCK_S = (0.0, 0.01, 0.02)
POWER = Power(cpu_w=2.0, tx_w=1.0, rx_w=0.5, idle_w=0.0)


class Recorder:
    """Always the same Decision; remembers what it saw."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.seen: list[Observation] = []
        self.told: list[Outcome] = []

    def decide(self, observation: Observation) -> Decision:
        self.seen.append(observation)
        return self.decision

    def learn(self, outcome: Outcome) -> None:
        self.told.append(outcome)

    def reset(self, seed: int) -> None:
        self.seen.clear()


def make(decision: Decision, modem: Modem | None = None) -> tuple[Session, Recorder]:
    """Networks with gates take so much less time as they keep less."""
    policy = Recorder(decision)
    session = Session(
        Agent((1, 2), BLOCK_S, 0.01, lambda keep: [keep * seconds for seconds in BLOCK_S]),
        GuardedPolicy(policy, CARD, Decision(2)),
        POWER,
        deadline_s=0.5,
        coherence_s=0.5,
        battery_j=1.0,
        modem=modem,
    )
    return session, policy


def serve(
    session: Session,
    arrival_s: float,
    *,
    start_s: float | None = None,
    trip: dict[str, Any] | None = None,
    channel_uses: int = 0,
) -> Finished:
    """One request; `trip` holds what the reply told, None loses the reply 0.1 s after the sending."""
    now_s = arrival_s if start_s is None else start_s
    generator = session.begin(now_s, arrival_s, 3)
    result: Any = None
    try:
        while True:
            effect = generator.send(result)
            if isinstance(effect, RunBlocks):
                now_s += 0.01 * (effect.stop - effect.start)
                result = now_s, Reading(1, 0.1, effect.stop - 1)
                continue
            assert isinstance(effect, Offload)
            sent = Trip(now_s, 1000, channel_uses=channel_uses)
            session.sent(sent, effect.answer_by_s)
            now_s += 0.1
            if trip is None:
                session.lost(now_s)
                result = now_s, None
            else:
                for name, value in trip.items():
                    setattr(sent, name, value)
                session.replied(now_s)
                result = now_s, Reply(1, 0.9, 1)
    except StopIteration as stopped:
        return session.finish(stopped.value)


REPORT = {
    "airtime_up_s": 0.04,
    "airtime_down_s": 0.01,
    "server_s": 0.02,
    "load": 5.0,
    "snr_db": 12.0,
    "rate_bps": 2e6,
}


def test_the_first_observation_knows_no_link() -> None:
    session, policy = make(Decision(1))
    serve(session, 1.0, start_s=1.2, trip=REPORT)
    seen = policy.seen[0]
    assert math.isnan(seen.rate_bps)
    assert math.isnan(seen.round_trip_s)
    assert (seen.device_queue, seen.energy_j, seen.link_up) == (3, 1.0, True)
    assert seen.time_left_s == pytest.approx(0.3)


def test_a_modems_report_is_what_the_next_observation_shows() -> None:
    session, policy = make(Decision(1))
    done_s = serve(session, 0.0, trip=REPORT).answer.done_s
    serve(session, done_s, trip=REPORT)
    seen = policy.seen[1]
    assert (seen.snr_db, seen.rate_bps) == (pytest.approx(12.0), pytest.approx(2e6))
    assert seen.round_trip_s == pytest.approx(0.1 - 0.02 - 0.05)
    assert seen.server_load == 5.0


def test_without_a_modem_bytes_over_time_are() -> None:
    session, policy = make(Decision(1))
    measured = {"server_s": 0.02, "load": 1.0, "airtime_up_s": 0.07, "airtime_down_s": 0.01}
    done_s = serve(session, 0.0, trip=measured).answer.done_s
    serve(session, done_s, trip=measured)
    assert policy.seen[1].rate_bps == pytest.approx(8 * 1000 / 0.08)
    assert policy.seen[1].round_trip_s == pytest.approx(0.0)


def test_a_modem_that_measures_is_believed_before_anything_was_sent() -> None:
    session, policy = make(Decision(1), lambda t: Measurement(t, LinkReading(7.0, 3e6)))
    serve(session, 0.0, trip=REPORT)
    assert (policy.seen[0].snr_db, policy.seen[0].rate_bps) == (pytest.approx(7.0), pytest.approx(3e6))
    assert policy.seen[0].rate_sigma_db == 0.0


def test_where_the_modem_hears_nothing_nothing_is_sent_until_it_hears_again() -> None:
    session, policy = make(Decision(1), lambda t: Measurement(t, LinkReading(7.0, 3e6) if t >= 1.0 else None))
    deaf = serve(session, 0.0, trip=REPORT)
    assert (deaf.answer.degraded, deaf.trip, policy.seen[0].link_up) == (True, None, False)
    heard = serve(session, 1.0, trip=REPORT)
    assert (heard.answer.degraded, policy.seen[1].link_up) == (False, True)
    assert heard.trip is not None


def test_symbols_are_no_bytes_to_reckon_a_rate_with() -> None:
    session, policy = make(Decision(1))
    silent = {
        "server_s": 0.02,
        "load": 1.0,
        "airtime_up_s": 0.07,
        "airtime_down_s": 0.01,
        "channel_uses": 500,
    }
    done_s = serve(session, 0.0, trip=silent).answer.done_s
    done_s = serve(session, done_s, trip=REPORT).answer.done_s
    lost = serve(session, done_s, trip=None, channel_uses=500)
    serve(session, lost.answer.done_s, trip=None)
    assert math.isnan(policy.seen[1].rate_bps)
    assert policy.seen[1].round_trip_s == pytest.approx(0.0)
    # Of a lost one too nothing is learned but that it was lost.
    assert (policy.seen[3].link_up, policy.seen[3].rate_bps) == (False, pytest.approx(2e6))


def test_what_the_modem_measures_is_asked_for_when_the_decision_is_due() -> None:
    session, policy = make(Decision(1), lambda t: Measurement(t, LinkReading(t, 3e6)))
    serve(session, 1.0, start_s=1.25, trip=REPORT)
    assert policy.seen[0].snr_db == 1.25


def test_a_policy_may_be_waited_for_while_the_first_exit_can_still_answer() -> None:
    session, _ = make(Decision(1))
    # Of what is left, the reserve and the blocks to the first exit are not to spare.
    assert session.spare_s(session.observe(1.1, 1.0, 0)) == pytest.approx(0.4 - 0.01 - 0.01)


def test_the_head_is_charged_for_as_much_as_the_gates_left_it() -> None:
    session, _ = make(Decision(2, keep=0.5))
    assert serve(session, 0.0).costs[:1] == (0.01,)


def test_a_batch_is_charged_request_by_request() -> None:
    session, policy = make(Decision(1, merge=0.5))
    session.begin_batch(0.0, 0.0, 2, 3)
    trip = Trip(0.03, 1001, 61, airtime_up_s=0.04, airtime_down_s=0.02, server_s=0.01)
    session.sent(trip, 0.49)
    answers = [
        Answer(Decision(1, merge=0.5), 1, 0.5, place, 2 - (place > 0), place > 0, not place, False, 0.2)
        for place in range(3)
    ]
    finished = session.finish_batch(answers)
    assert [f.trip and f.trip.uplink_bytes for f in finished] == [None, 501, 500]
    assert [f.costs.head_s for f in finished] == [0.02, 0.01, 0.01]
    assert [f.costs.airtime_up_s for f in finished] == pytest.approx([0.0, 0.02, 0.02])
    sent_j = 2.0 * 0.01 + 0.5 * (0.04 + 0.5 * 0.02)
    assert [f.costs.energy_j for f in finished] == pytest.approx([0.04, sent_j, sent_j])
    assert [told.uplink_bytes for told in policy.told] == [0, 501, 500]
    assert session.observe(1.0, 1.0, 0).energy_j == pytest.approx(1.0 - 0.04 - 2 * sent_j)


def test_a_lost_reply_takes_the_link_down_and_bounds_the_rate() -> None:
    session, policy = make(Decision(1))
    done_s = serve(session, 0.0, trip=REPORT).answer.done_s
    lost = serve(session, done_s, trip=None)
    assert lost.answer.degraded
    assert not session.link_up
    after = serve(session, lost.answer.done_s, trip=None)
    assert not after.answer.offloaded
    assert not policy.seen[2].link_up
    assert policy.seen[2].rate_bps <= 8 * 1000 / 0.1 * (1 + 1e-9)


@pytest.mark.parametrize(("merge", "batch"), [(0.5, 128), (0.9, 71), (5e-324, 200)])
def test_a_batch_has_no_more_requests_than_merge_into_the_groups_of_a_message(
    merge: float, batch: int
) -> None:
    session, _ = make(Decision(2, merge=merge))
    session.begin_batch(0.0, 0.0, 0, 200)
    assert session.batch == batch


def test_the_battery_runs_down_by_what_each_request_cost() -> None:
    session, policy = make(Decision(1))
    energies = [serve(session, float(i), trip=REPORT).costs.energy_j for i in range(3)]
    assert energies[0] == pytest.approx(2.0 * 0.01 + 0.04 + 0.5 * 0.01)
    left = [seen.energy_j for seen in policy.seen]
    assert left == pytest.approx([1.0, 1.0 - energies[0], 1.0 - sum(energies[:2])])


def test_the_policy_is_told_what_happened() -> None:
    session, policy = make(Decision(1))
    serve(session, 0.0, trip=REPORT)
    serve(session, 1.0, start_s=1.6, trip=REPORT)
    sent, late = policy.told
    assert (sent.cut, sent.offloaded, sent.degraded, sent.late, sent.margin) == (1, True, False, False, 0.9)
    assert (sent.uplink_bytes, sent.airtime_s) == (1000, pytest.approx(0.05))
    assert sent.latency_s == pytest.approx(0.11)
    assert (late.offloaded, late.degraded, late.late, late.uplink_bytes) == (False, True, True, 0)
