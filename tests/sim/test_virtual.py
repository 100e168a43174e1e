"""Virtual time to the second: one device whose link, server and policy are known, and all that its records say."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest

from splitpoint.channel.config import ConstantConfig, OutageConfig, build_link
from splitpoint.channel.link import REFINEMENT_IDS, Link
from splitpoint.channel.medium import DedicatedMedium, Transfer
from splitpoint.channel.medium_config import SnrReportConfig, build_report
from splitpoint.channel.rate import wire_bytes
from splitpoint.codec.refinement import ASK_BYTES
from splitpoint.codec.requests import GROUP_BYTES
from splitpoint.device.agent import Agent
from splitpoint.device.effects import Reading, Reply
from splitpoint.device.session import Session
from splitpoint.models.card import read_card
from splitpoint.models.store import resolve
from splitpoint.policies.decision import Decision
from splitpoint.policies.guard import GuardedPolicy
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome
from splitpoint.policies.rules import Power
from splitpoint.policies.service_time import Pace
from splitpoint.sim.backends import Upload
from splitpoint.sim.sections import Fault
from splitpoint.sim.virtual import VirtualDevice, VirtualRun
from splitpoint.sim.virtual_batches import BatchRun
from splitpoint.sim.virtual_server import VirtualServer

CARD = read_card(resolve("clutter"))
BLOCK_S = (0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006)
RATE_BPS, ROUND_TRIP_S, OVERHEAD_S, SEGMENT_S, PROBE_S, DEADLINE_S = 1e6, 0.02, 0.005, 0.01, 0.3, 0.5
SENT, FURTHER, REPLY = 2000, 700, 100
POWER = Power(2.0, 1.0, 0.5, 0.1)
REPORT = SnrReportConfig(step_db=0.0, sigma_db=3.0)

AIR_UP_S, AIR_DOWN_S = 8.0 * wire_bytes(SENT) / RATE_BPS, 8.0 * wire_bytes(REPLY) / RATE_BPS
SERVED_S = SEGMENT_S * len(CARD.exits)
WHOLE_S = OVERHEAD_S + AIR_UP_S + SERVED_S + AIR_DOWN_S + ROUND_TRIP_S
"""From the sending of a raw input to its answer, where nobody is in the way."""


class _Backend:
    """The device is sure of some samples only; the server is as sure as it is told."""

    reply_bytes = REPLY

    def __init__(self, margin: float, sure: tuple[int, ...]) -> None:
        self._margin, self._sure = margin, sure

    def reading(self, sample: int, exit: int, keep: float) -> Reading:
        return Reading(0, float(sample in self._sure), exit)

    def upload(self, sample: int, cut: int, decision: Decision) -> Upload:
        return Upload(SENT, CARD.patch_tokens + 1, None)

    def upload_merged(
        self, samples: list[int], cut: int, decision: Decision, request_id: int
    ) -> tuple[list[Upload], list[int]]:
        assert samples == list(range(len(samples)))
        return [Upload(SENT, CARD.patch_tokens + 1, group) for group in (5, 6)], [0, 1, 1, 0][: len(samples)]

    def refinement(self, sample: int, cut: int, decision: Decision) -> Upload:
        return Upload(FURTHER, CARD.patch_tokens + 1, None)

    def serve(self, cut: int, uploads: list[Upload], exit_margins: list[float]) -> list[Reply]:
        return [Reply(upload.handle or 9, self._margin, len(CARD.exits) - 1) for upload in uploads]


class _Policy:
    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.seen: list[Observation] = []

    def decide(self, observation: Observation) -> Decision:
        self.seen.append(observation)
        return self.decision

    def learn(self, outcome: Outcome) -> None:
        pass

    def reset(self, seed: int) -> None:
        pass


class _Noted(DedicatedMedium):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, int]] = []

    def submit(
        self, now: float, link: Link, nbytes: int, key: int, tag: object = None, symbols: int = 0
    ) -> Transfer:
        self.sent.append((nbytes, key))
        return super().submit(now, link, nbytes, key, tag, symbols)


class Deployment:
    """Devices with the same arrivals, or the second with its own; what policies saw and what was on the air."""

    def __init__(
        self,
        arrivals: list[float],
        decision: Decision = Decision(0),  # noqa: B008 - frozen
        *,
        devices: int = 1,
        margin: float = 1.0,
        faults: tuple[Fault, ...] = (),
        max_pending: int = 9,
        kind: type[VirtualRun] = VirtualRun,
        deadline_s: float = DEADLINE_S,
        outages: OutageConfig = OutageConfig(),  # noqa: B008 - frozen
        sure: tuple[int, ...] = (),
        second: list[float] | None = None,
    ) -> None:
        self.up, self.down, self.policies = _Noted(), _Noted(), []
        made, backend = [], cast(Any, _Backend(margin, sure))
        for index in range(devices):
            config = ConstantConfig(rate_bps=RATE_BPS, round_trip_s=ROUND_TRIP_S, outages=outages)
            link = build_link(config, 0, index)
            policy = _Policy(decision)
            self.policies.append(policy)
            session = Session(
                Agent(CARD.exits, BLOCK_S, 0.0),
                GuardedPolicy(policy, CARD, Decision(CARD.depth)),
                POWER,
                deadline_s=deadline_s,
                coherence_s=1.0,
                battery_j=math.inf,
            )
            report = build_report(REPORT, link, 0)
            times = second if index and second else arrivals
            samples = list(range(len(times)))
            made.append(VirtualDevice(index, session, link, report, OVERHEAD_S, times, samples))

        def server(timeline: Any, replied: Any, lost: Any) -> VirtualServer:
            pace = Pace(SEGMENT_S, math.inf)
            return VirtualServer(timeline, backend, CARD, pace, 8, max_pending, faults, replied, lost)

        run = kind(made, backend, self.up, self.down, server, probe_s=PROBE_S)
        self.columns: dict[str, list[Any]] = {name: column.tolist() for name, column in run.run().items()}


def test_a_request_that_is_sent_takes_the_sum_of_its_parts() -> None:
    found = Deployment([0.1]).columns
    assert found["uplink_s"] == pytest.approx([AIR_UP_S + 0.5 * ROUND_TRIP_S])
    assert found["server_s"] == pytest.approx([SERVED_S])
    assert found["downlink_s"] == pytest.approx([AIR_DOWN_S + 0.5 * ROUND_TRIP_S])
    assert found["done_s"] == pytest.approx([0.1 + WHOLE_S])
    assert (found["airtime_up_s"], found["airtime_down_s"]) == (
        pytest.approx([AIR_UP_S]),
        pytest.approx([AIR_DOWN_S]),
    )
    wait_s = WHOLE_S - AIR_UP_S - AIR_DOWN_S
    assert found["energy_j"] == pytest.approx([AIR_UP_S + 0.5 * AIR_DOWN_S + 0.1 * wait_s])
    assert (found["uplink_bytes"], found["downlink_bytes"]) == ([SENT], [REPLY])
    # From cut 2 there are two blocks before that, and no exit on the server less one.
    [energy_j] = Deployment([0.1], Decision(2)).columns["energy_j"]
    assert energy_j == pytest.approx(found["energy_j"][0] + 2.0 * BLOCK_S[2] - 0.1 * SEGMENT_S)


def test_policies_see_who_waits_and_what_came_with_the_last_reply() -> None:
    deployment = Deployment([0.0, 0.01, 0.02, WHOLE_S, 5.0])
    [policy] = deployment.policies
    assert [seen.device_queue for seen in policy.seen] == [0, 2, 1, 0, 0]
    assert deployment.columns["start_s"] == pytest.approx([0.0, WHOLE_S, 2 * WHOLE_S, 3 * WHOLE_S, 5.0])
    assert [seen.time_left_s for seen in policy.seen] == pytest.approx(
        [DEADLINE_S - late for late in (0.0, WHOLE_S - 0.01, 2 * WHOLE_S - 0.02, 2 * WHOLE_S, 0.0)]
    )
    assert policy.seen[1].round_trip_s == pytest.approx(ROUND_TRIP_S + OVERHEAD_S)
    assert policy.seen[1].rate_bps == pytest.approx(RATE_BPS)
    assert policy.seen[1].server_load == 0.0
    link = build_link(ConstantConfig(rate_bps=RATE_BPS), 0, 0)
    assert policy.seen[1].snr_db == build_report(REPORT, link, 0).read(WHOLE_S, 1).snr_db
    assert [seen.device_queue for seen in Deployment([0.0, 0.0]).policies[0].seen] == [1, 0]
    assert Deployment([0.0, 0.0], Decision(6)).columns["start_s"] == pytest.approx([0.0, BLOCK_S[6]])


def test_the_load_that_a_reply_tells_is_what_waits_then() -> None:
    # The second comes while the first is served, and waits: the reply to the first tells of it.
    deployment = Deployment([0.0, 0.3], devices=2)
    first, second = (policy.seen[1].server_load for policy in deployment.policies)
    assert sorted((first, second)) == [0.0, 1.0]


REFINED = Decision(1, bits=2, refine_bits=4, refine_margin=0.5)


def test_ways_up_and_down_and_second_messages_draw_by_keys_of_their_own() -> None:
    deployment = Deployment([0.0, 1.0], REFINED, margin=0.1)
    again = 2 * REFINEMENT_IDS
    assert deployment.up.sent == [(SENT, 2), (FURTHER, again + 2), (SENT, 4), (FURTHER, again + 4)]
    asked = REPLY + ASK_BYTES
    assert deployment.down.sent == [(asked, 3), (REPLY, again + 3), (asked, 5), (REPLY, again + 5)]
    assert deployment.columns["downlink_bytes"] == [asked + REPLY] * 2
    assert deployment.columns["uplink_bytes"] == [SENT + FURTHER] * 2
    further_s = (
        8.0 * (wire_bytes(FURTHER) - wire_bytes(SENT) + wire_bytes(asked) - wire_bytes(REPLY)) / RATE_BPS
    )
    # From cut 1 there is one block less to do, and no segment.
    done_s = BLOCK_S[1] + 2 * WHOLE_S + further_s
    assert deployment.columns["done_s"] == pytest.approx([done_s, 1.0 + done_s])


def test_what_a_killed_server_held_is_answered_at_once_and_probes_find_its_successor() -> None:
    # In its hands at 1.0; probes at 1.0, 1.3, 1.6, 1.9 find nobody, the one at 2.2 is answered at 2.22.
    kill = Fault(kind="kill", at_s=1.0, for_s=1.0)
    deployment = Deployment([0.95, 1.5, 2.21, 2.23], faults=(kill,))
    found = deployment.columns
    assert found["offloaded"] == [True, False, False, True]
    assert found["degraded"] == [True, True, True, False]
    assert found["done_s"] == pytest.approx(
        [1.0 + BLOCK_S[2], 1.5 + BLOCK_S[2], 2.21 + BLOCK_S[2], 2.23 + WHOLE_S]
    )
    assert np.isnan(found["server_s"][:3]).all()
    assert found["downlink_bytes"] == [0, 0, 0, REPLY]
    # The radio tried until the connection broke, give or take the blocks that answered then.
    assert found["airtime_up_s"][0] == pytest.approx(0.05, abs=BLOCK_S[2] + 1e-9)
    # What the dead had begun is not sent by the living.
    assert len(deployment.down.sent) == 1


def test_a_frozen_server_is_no_more_found_than_a_dead_one() -> None:
    # Given up before the deadline, in time for the first exit; of the probes from then on, the fifth meets the thaw.
    freeze = Fault(kind="freeze", at_s=1.0, for_s=1.6)
    given_up_s = 0.95 + DEADLINE_S - BLOCK_S[2]
    back_s = given_up_s + 4 * PROBE_S + ROUND_TRIP_S
    found = Deployment([0.95, 2.0, back_s - 0.01, back_s + 0.01], faults=(freeze,)).columns
    assert found["offloaded"] == [True, False, False, True]
    assert found["done_s"][0] == pytest.approx(0.95 + DEADLINE_S)
    assert found["degraded"] == [True, True, True, False]


def test_a_server_that_goes_on_does_no_work_for_who_has_given_up() -> None:
    freeze = Fault(kind="freeze", at_s=0.0, for_s=0.6)
    found = Deployment([0.0], devices=2, second=[0.58], faults=(freeze,)).columns
    assert found["degraded"] == [True, False]
    assert found["done_s"][1] == pytest.approx(0.58 + WHOLE_S)


def test_a_link_that_is_down_is_found_by_no_probe() -> None:
    outages = OutageConfig(windows=((1.0, 2.0),))
    given_up_s = 0.99 + DEADLINE_S - BLOCK_S[2]
    back_s = given_up_s + 2 * PROBE_S + ROUND_TRIP_S
    found = Deployment([0.99, 1.9, back_s - 0.01, back_s + 0.01], outages=outages).columns
    assert found["offloaded"] == [True, False, False, True]
    assert found["degraded"] == [True, True, True, False]


def test_a_server_that_is_gone_is_told_at_once() -> None:
    kill = Fault(kind="kill", at_s=1.0, for_s=1.0)
    deployment = Deployment([1.1], faults=(kill,))
    assert deployment.up.sent == []
    assert deployment.columns["offloaded"] == [True]
    assert deployment.columns["done_s"] == pytest.approx([1.1 + OVERHEAD_S + BLOCK_S[2]])


def test_what_is_too_late_to_send_says_nothing_about_the_link() -> None:
    # The second's turn comes when there is less time left than encoding takes.
    deployment = Deployment([0.0, 0.0, WHOLE_S + 0.008], deadline_s=WHOLE_S + BLOCK_S[2] + 0.001)
    assert deployment.columns["offloaded"] == [True, True, True]
    assert deployment.columns["degraded"] == [False, True, False]
    assert len(deployment.up.sent) == 2


def test_a_server_that_refuses_is_still_there() -> None:
    found = Deployment([0.0, 0.5], max_pending=0).columns
    refused_s = WHOLE_S - SERVED_S + BLOCK_S[2]
    assert found["done_s"] == pytest.approx([refused_s, 0.5 + refused_s])
    assert (found["offloaded"], found["degraded"]) == ([True, True], [True, True])
    assert np.isnan(found["server_s"]).all()
    # Who is in work counts too: of two that come at once, there is room for one.
    assert sorted(Deployment([0.0], devices=2, max_pending=1).columns["degraded"]) == [False, True]


def test_what_was_held_for_a_second_message_dies_with_the_server() -> None:
    # It is back before the second message comes, and knows nothing of the first.
    kill = Fault(kind="kill", at_s=0.065, for_s=0.001)
    found = Deployment([0.0], REFINED, margin=0.1, faults=(kill,)).columns
    assert (found["refined"], found["degraded"], found["local"]) == ([True], [True], [False])


def test_a_server_that_drains_asks_no_more() -> None:
    drain = Fault(kind="drain", at_s=0.04, for_s=5.0)
    found = Deployment([0.0], REFINED, margin=0.1, faults=(drain,)).columns
    assert (found["offloaded"], found["refined"], found["degraded"]) == ([True], [False], [False])


MERGED = Decision(1, merge=0.5)
BURST = [0.0] * 4


def test_a_burst_takes_the_blocks_of_all_and_one_message() -> None:
    deployment = Deployment([*BURST, 0.001, 0.002], MERGED, kind=BatchRun)
    found = deployment.columns
    reply = REPLY + GROUP_BYTES
    done_s = 4 * BLOCK_S[1] + WHOLE_S + 8.0 * (wire_bytes(reply) - wire_bytes(REPLY)) / RATE_BPS
    # Two groups in one batch; each sample gets its own group's answer.
    assert found["prediction"] == [5, 6, 6, 5, 9, 9]
    assert found["done_s"][:4] == pytest.approx([done_s] * 4)
    assert deployment.up.sent == [(SENT, 2), (SENT, 10), (SENT, 12)]
    assert deployment.down.sent == [(reply, 3), (REPLY, 11), (REPLY, 13)]
    assert (sum(found["uplink_bytes"][:4]), sum(found["downlink_bytes"][:4])) == (SENT, reply)
    assert sum(found["airtime_up_s"][:4]) == pytest.approx(AIR_UP_S)
    assert found["server_s"][:4] == pytest.approx([SERVED_S] * 4)
    # All that came with it wait behind the first; those that came later are no burst.
    [policy] = deployment.policies
    assert [seen.device_queue for seen in policy.seen] == [3, 1, 0]
    assert policy.seen[1].server_load == 0.0
    assert found["start_s"][4] == pytest.approx(done_s)


def test_who_is_sure_in_a_burst_is_answered_first_and_the_next_waits_for_the_last() -> None:
    found = Deployment(
        [*BURST, 0.001], Decision(2, exit_margin=0.5, merge=0.5), kind=BatchRun, sure=(3,)
    ).columns
    assert found["local"] == [False, False, False, True, False]
    assert found["done_s"][3] == pytest.approx(4 * BLOCK_S[2])
    assert found["start_s"][4] == max(found["done_s"][:4]) > found["done_s"][3]


def test_a_refused_part_refuses_the_whole_burst() -> None:
    assert not any(Deployment(BURST, MERGED, kind=BatchRun, max_pending=2).columns["degraded"])
    found = Deployment(BURST, MERGED, kind=BatchRun, max_pending=1).columns
    reply = REPLY + GROUP_BYTES
    refused_s = 4 * BLOCK_S[1] + WHOLE_S - SERVED_S + 8.0 * (wire_bytes(reply) - wire_bytes(REPLY)) / RATE_BPS
    assert found["degraded"] == [True] * 4
    assert found["done_s"] == pytest.approx([refused_s + 4 * (BLOCK_S[2] - BLOCK_S[1])] * 4)


def test_a_burst_in_a_killed_servers_hands_is_lost_once() -> None:
    kill = Fault(kind="kill", at_s=0.05, for_s=1.0)
    found = Deployment([*BURST, 1.5], MERGED, kind=BatchRun, faults=(kill,)).columns
    # The next one comes when a probe has found the server's successor.
    assert found["degraded"] == [True] * 4 + [False]
    assert found["done_s"][:4] == pytest.approx([0.05 + 4 * (BLOCK_S[2] - BLOCK_S[1])] * 4)
    assert sum(found["airtime_up_s"][:4]) == pytest.approx(0.05 - 4 * BLOCK_S[1], abs=4 * BLOCK_S[1] + 1e-9)
