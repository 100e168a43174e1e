"""Many devices, each alone on its media and with its server: `solo.Solo` on arrays.

The same steps as there, all copies at once; what holds for some copies only is masked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...channel.config import MahimahiConfig, RoundRobinConfig
from ..rules import energy_j, tried_s, utility_parts, waited_s
from .bank import LinkBank, lossless_bits
from .config import EnvironmentConfig
from .estimates import LinkEstimates
from .media import FifoMedia, MahimahiMedia, Media

__all__ = ["Many", "Paths", "Trips"]

_AHEAD = 4
"""Later requests that are looked at together for whether they wait already."""

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Paths(NamedTuple):
    """The sample paths of N copies; first axis is the request, so that a step reads one row.

    arrivals_s, samples   (K + 1, N), times from each path's begin
    uniform_up, uniform_down, normal    (K + 1, N), draws of the losses each way and of the modem's errors
    bank, path            the links, and which of them each copy is on, int64 (N,)
    """

    arrivals_s: Array
    samples: NDArray[np.int64]
    uniform_up: Array
    uniform_down: Array
    normal: Array
    bank: LinkBank
    path: NDArray[np.int64]


class Trips(NamedTuple):
    """done_s: when each copy's sending ended, with a reply or without (where it sent; else when it began).

    Airtimes hold where `replied`.
    """

    done_s: Array
    replied: Mask
    airtime_up_s: Array
    airtime_down_s: Array


class Many:
    """The memory of N devices along their paths; fields are (N,), times on the bank's clock."""

    def __init__(self, config: EnvironmentConfig, paths: Paths, reply_bytes: int) -> None:
        self._config, self._paths, self._bank = config, paths, paths.bank
        copies = len(paths.path)
        origin_s = paths.bank.origin_s[paths.path]
        self._arrivals = paths.arrivals_s + origin_s
        self._uplink, self._downlink = (
            _media(medium, paths.bank, origin_s) for medium in (config.uplink, config.downlink)
        )
        self._origin_s = origin_s
        self._reply_bytes = np.full(copies, float(reply_bytes))
        self._reply_bits = lossless_bits(self._reply_bytes)
        self._half_trip_s = 0.5 * paths.bank.round_trip_s
        self.estimates = LinkEstimates(copies, config.coherence_s)
        self.energy_left_j = np.full(copies, config.battery_j)
        self._free_s, self._server_free_s = origin_s.copy(), origin_s.copy()
        self._up_from_s = np.full(copies, -np.inf)
        self.requests = 0
        self.sample: NDArray[np.int64]
        self.arrival_s: Array
        self.start_s: Array
        self.due_s: Array
        self.behind: Array
        self.link_up: Mask

    def begin(self) -> None:
        """Each device's next request comes to its turn."""
        arrivals = self._arrivals
        self.arrival_s = arrivals[self.requests]
        self.sample = self._paths.samples[self.requests]
        self.requests += 1
        self.start_s = np.maximum(self.arrival_s, self._free_s)
        self.due_s = self.arrival_s + self._config.deadline_s
        self.behind = np.zeros(len(self.start_s))
        for later in range(self.requests, len(arrivals), _AHEAD):
            waits = arrivals[later : later + _AHEAD] <= self.start_s
            self.behind += np.add.reduce(waits, axis=0)
            if not np.count_nonzero(waits[-1]):
                break
        self.link_up = self.start_s >= self._up_from_s

    def send(
        self, where: Mask, now_s: Array, answer_by_s: Array, nbytes: Array, bits: Array, server_s: Array
    ) -> Trips:
        """Send where `where`, at `now_s`; the servers work `server_s`. bits: of `nbytes` on the air without losses."""
        send_s = now_s + self._config.overhead_s
        sent = where & (send_s < answer_by_s)
        row, half_s = self.requests - 1, self._half_trip_s
        up_s, received_s = self._uplink.send(sent, send_s, nbytes, bits, self._paths.uniform_up[row])
        received_s = received_s + half_s
        begun_s = np.maximum(received_s, self._server_free_s)
        # The server drops what nobody waits for any more.
        works = sent & (begun_s < answer_by_s)
        replied_s = np.where(works, begun_s + server_s, self._server_free_s)
        self._server_free_s = replied_s
        down_s, delivered_s = self._downlink.send(
            works, replied_s, self._reply_bytes, self._reply_bits, self._paths.uniform_down[row]
        )
        delivered_s = delivered_s + half_s
        replied = works & (delivered_s < answer_by_s)
        done_s = np.where(replied, delivered_s, now_s)
        snr_db, rate_bps = self._report(done_s)
        rest_s = done_s - now_s - (replied_s - received_s) - (up_s + down_s)
        self.estimates.reply(replied, done_s, snr_db, rate_bps, rest_s)
        lost = (sent & ~replied).nonzero()[0]
        if len(lost):
            closed_s = answer_by_s[lost]
            self.estimates.no_reply(lost, closed_s, nbytes[lost], closed_s - now_s[lost])
            self._up_from_s[lost] = self._found_up(closed_s)
            done_s[lost] = closed_s
        np.copyto(done_s, send_s, where=where & ~sent)
        return Trips(done_s, replied, up_s, down_s)

    def _report(self, t: Array) -> tuple[Array, Array]:
        """What the modems say of SNR and rate at t."""
        report = self._config.report
        measured_s = np.maximum(t - report.delay_s, self._origin_s)
        snr_db = self._bank.snr_db(measured_s)
        if report.sigma_db:
            snr_db += report.sigma_db * self._paths.normal[self.requests - 1]
        if report.step_db:
            snr_db = report.step_db * np.floor(snr_db / report.step_db + 0.5)
        rate_bps = self._bank.rate.over(snr_db)
        limit_bps = self._uplink.rate_bps(measured_s)
        return snr_db, rate_bps if limit_bps is None else np.minimum(rate_bps, limit_bps)

    def _found_up(self, lost_s: Array) -> Array:
        """When a probe of each lost link is first answered."""
        probe_s = lost_s.copy()
        while self._bank.outages and (down := ~self._bank.up(probe_s)).any():
            probe_s[down] += self._config.probe_s
        return probe_s + self._bank.round_trip_s

    def finish(
        self,
        done_s: Array,
        head_s: Array,
        correct: Mask,
        trips: Trips,
        failed: Mask,
        sent_s: Array,
        answer_by_s: Array,
    ) -> dict[str, Any]:
        """Charge the devices; the answers are there at `done_s`. What `solo.Result` says, arrays (N,).

        failed: what was sent at `sent_s` had no reply until `answer_by_s`.
        """
        weights, power = self._config.weights, self._config.power
        up_s, down_s = trips.airtime_up_s * trips.replied, trips.airtime_down_s * trips.replied
        wait_s = waited_s(sent_s, done_s, up_s, down_s) * trips.replied
        places = failed.nonzero()[0]
        up_s[places] = tried_s(sent_s[places], answer_by_s[places], done_s[places])
        energy = energy_j(power, head_s, up_s, down_s, wait_s)
        if self._config.battery_j < np.inf:
            self.energy_left_j = self.energy_left_j - energy
        self._free_s = done_s
        latency_s = done_s - self.arrival_s
        late = latency_s > weights.deadline_s
        parts = utility_parts(correct, latency_s, energy, up_s + down_s, late, weights)
        return {
            "reward": sum(parts.values()),
            "correct": correct,
            "latency_s": latency_s,
            "energy_j": energy,
            "airtime_up_s": up_s,
            "airtime_down_s": down_s,
            "late": late,
            "reward_parts": parts,
        }


def _media(config: object, bank: LinkBank, origin_s: Array) -> Media:
    if isinstance(config, MahimahiConfig):
        return MahimahiMedia(config, bank, origin_s)
    # With one device to a medium, all others are first in, first out.
    return FifoMedia(bank, origin_s, packets_at_submission=isinstance(config, RoundRobinConfig))
