"""One device alone on its media and with its server, from request to request, without an event loop.

    begin ─► (head) ─► send: uplink ─► server ─► downlink ─► reply in time, or not ─► finish

The same steps in the same order as the engine in virtual time takes for one device. Requests that were given up
still hold the medium and the server, as they do there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any, NamedTuple

from ...channel.config import build_medium, build_report
from ...channel.link import Link
from ...channel.medium import Medium, Transfer
from ...errors import UsageError
from ..estimate import LinkEstimate
from ..observation import Observation
from ..rules import UtilityWeights, energy_j, tried_s, utility, utility_parts, waited_s
from .config import EnvironmentConfig
from .path import SamplePath

__all__ = ["Result", "Solo", "info_of", "transfer"]


class Result(NamedTuple):
    """What one request came to; seconds and joules. reward is its utility."""

    reward: float
    correct: bool
    latency_s: float
    energy_j: float
    airtime_up_s: float
    airtime_down_s: float
    late: bool


def info_of(
    result: Result,
    weights: UtilityWeights,
    *,
    nbytes: int,
    cut: int,
    exit: int,
    margin: float,
    offloaded: bool,
    degraded: bool,
) -> dict[str, Any]:
    """What `step` tells of an answered request: the result, the reward's terms, and how it was answered."""
    parts = utility_parts(
        float(result.correct),
        result.latency_s,
        result.energy_j,
        result.airtime_up_s + result.airtime_down_s,
        float(result.late),
        weights,
    )
    return {
        **result._asdict(),
        "reward_parts": parts,
        "nbytes": nbytes,
        "cut": cut,
        "exit": exit,
        "margin": margin,
        "offloaded": offloaded,
        "degraded": degraded,
    }


def transfer(medium: Medium, now_s: float, link: Link, nbytes: int, key: int) -> Transfer:
    """Send on a medium whose later users cannot change what becomes of this message: settled at once."""
    settled = medium.submit(now_s, link, nbytes, key)
    while settled is None:
        for completion in medium.pop_completed(medium.next_completion()):
            if completion.key == key:
                settled = completion.transfer
    return settled


class Solo:
    """The memory of one device, one uplink, one downlink and one server along a path."""

    def __init__(
        self, config: EnvironmentConfig, path: SamplePath, reply_bytes: int, uplink: Medium | None = None
    ) -> None:
        """uplink: a medium that others share, where there is one; the modem's report may depend on it."""
        self._config = config
        self._arrivals = path.arrivals_s
        self._samples = path.samples
        self.link = path.link
        self._uplink, self._downlink = uplink or build_medium(config.uplink), build_medium(config.downlink)
        self._report = build_report(config.report, path.link, path.seed, self._uplink)
        self._reply_bytes = reply_bytes
        self.half_trip_s = 0.5 * path.link.round_trip_s
        self._deadline_s = config.deadline_s
        self._overhead_s = config.overhead_s
        self._estimate = LinkEstimate(config.coherence_s)
        self._energy_left_j = config.battery_j
        self._free_s = self._server_free_s = 0.0
        self._probe_s = math.inf  # when the lost link is probed next
        self._up_from_s = -math.inf
        self._sent_s = self._answer_by_s = math.nan
        self._airtime_up_s = self._airtime_down_s = 0.0
        self.requests = 0
        self.sample = -1
        self.arrival_s = self.start_s = self.due_s = 0.0
        self.link_up = True
        self.observation: Observation

    def begin(self) -> Observation:
        """The next request's turn comes: what the device knows then. UsageError after the path's last."""
        if self.requests == len(self._arrivals):
            raise UsageError("reset this environment after an episode's last step")
        arrival_s = self._arrivals[self.requests]
        self.sample = self._samples[self.requests]
        self.requests += 1
        start_s = arrival_s if arrival_s > self._free_s else self._free_s
        behind = bisect_right(self._arrivals, start_s, self.requests) - self.requests
        self.arrival_s, self.start_s, self.due_s = arrival_s, start_s, arrival_s + self._deadline_s
        self._sent_s = math.nan
        # No further than now: an outage may be meant to last for ever.
        while self._probe_s <= start_s:
            self._probe()
        estimate = self._estimate
        estimate.heard(self._report.newest(start_s))
        self.link_up = start_s > self._up_from_s and estimate.signal
        snr_db, rate_bps, rate_sigma_db = estimate.at(start_s)
        self.observation = Observation(
            snr_db,
            rate_bps,
            rate_sigma_db,
            estimate.round_trip_s,
            behind,
            estimate.server_load,
            self._energy_left_j,
            self.due_s - start_s,
            self.link_up,
        )
        return self.observation

    def send(self, now_s: float, answer_by_s: float, nbytes: int, server_s: float) -> tuple[float, bool]:
        """Send `nbytes` at `now_s`; the server works `server_s` on it.

        Returns when this ended, and whether with a reply; without one, the device has waited until `answer_by_s`.
        """
        send_s = self.start_sending(now_s, answer_by_s)
        if send_s >= answer_by_s:
            return send_s, False
        key = 2 * self.requests
        up = transfer(self._uplink, send_s, self.link, nbytes, key)
        if up.done_s < math.inf:
            received_s = up.done_s + self.half_trip_s
            begun_s = received_s if received_s > self._server_free_s else self._server_free_s
            # The server drops what nobody waits for any more.
            if begun_s < answer_by_s:
                self._server_free_s = replied_s = begun_s + server_s
                down = transfer(self._downlink, replied_s, self.link, self._reply_bytes, key + 1)
                delivered_s = down.done_s + self.half_trip_s
                if delivered_s < answer_by_s:
                    # Alone, the server has nothing left to do when it replies.
                    self.reply(delivered_s, up.airtime_s, down.airtime_s, replied_s - received_s, 0.0)
                    return delivered_s, True
        self.no_reply(nbytes)
        return answer_by_s, False

    def start_sending(self, now_s: float, answer_by_s: float) -> float:
        """When the request of `now_s` is encoded and goes to the radio; nothing goes at `answer_by_s` or later."""
        self._sent_s, self._answer_by_s = now_s, answer_by_s
        return now_s + self._overhead_s

    def reply(self, now_s: float, up_s: float, down_s: float, server_s: float, load: float) -> None:
        """A reply is here: airtimes, the server's time from receipt to reply, and its load."""
        self._airtime_up_s, self._airtime_down_s = up_s, down_s
        self._estimate.report(now_s, *self._report.read(now_s, self.requests))
        self._estimate.reply(now_s - self._sent_s - server_s - (up_s + down_s), load)

    def no_reply(self, nbytes: int) -> None:
        """None came in time: the link counts as lost until a probe comes back."""
        self._estimate.no_reply(self._answer_by_s, nbytes, self._answer_by_s - self._sent_s)
        self._probe_s, self._up_from_s = self._answer_by_s, math.inf

    def _probe(self) -> None:
        if self.link.up(self._probe_s):
            self._probe_s, self._up_from_s = math.inf, self._probe_s + self.link.round_trip_s
        else:
            self._probe_s += self._config.probe_s

    def finish(self, done_s: float, head_s: float, correct: bool, replied: bool) -> Result:
        """Charge the device for `head_s` of computing and what it sent; the answer is there at `done_s`."""
        power = self._config.power
        up_s = down_s = 0.0
        if self._sent_s != self._sent_s:
            energy = power.cpu_w * head_s
        elif replied:
            up_s, down_s = self._airtime_up_s, self._airtime_down_s
            energy = energy_j(power, head_s, up_s, down_s, waited_s(self._sent_s, done_s, up_s, down_s))
        else:
            up_s = tried_s(self._sent_s, self._answer_by_s, done_s)
            energy = energy_j(power, head_s, up_s, 0.0, 0.0)
        self._energy_left_j -= energy
        self._free_s = done_s
        latency_s = done_s - self.arrival_s
        late = latency_s > self._deadline_s
        reward = utility(float(correct), latency_s, energy, up_s + down_s, float(late), self._config.weights)
        return Result(reward, correct, latency_s, energy, up_s, down_s, late)
