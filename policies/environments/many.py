"""Many devices, each alone on its media and with its server: `solo.Solo` on arrays.

The same steps as there, all copies at once; what holds for some copies only is masked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...channel.config import MahimahiConfig, RoundRobinConfig
from ..rules import energy_j, tried_s, utility, waited_s
from .bank import LinkBank
from .config import EnvironmentConfig
from .estimates import LinkEstimates
from .media import FifoMedia, MahimahiMedia, Media

__all__ = ["Many", "Paths"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Paths(NamedTuple):
    """The sample paths of N copies; first axis is the request, so that a step reads one row.

    arrivals_s, samples   (K + 1, N)
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


class Many:
    """The memory of N devices along their paths; fields are (N,)."""

    def __init__(self, config: EnvironmentConfig, paths: Paths, reply_bytes: int) -> None:
        self._config, self._paths = config, paths
        self._bank, self._path = paths.bank, paths.path
        copies = len(paths.path)
        self._uplink, self._downlink = (
            _media(medium, paths.bank, paths.path) for medium in (config.uplink, config.downlink)
        )
        self._reply_bytes = np.full(copies, float(reply_bytes))
        self._half_trip_s = 0.5 * paths.bank.round_trip_s
        self.estimates = LinkEstimates(copies, config.coherence_s)
        self.energy_left_j = np.full(copies, config.battery_j)
        self._free_s, self._server_free_s = np.zeros((2, copies))
        self._up_from_s = np.full(copies, -np.inf)
        self._airtime_up_s, self._airtime_down_s = np.zeros((2, copies))
        self.requests = 0
        self.sample: NDArray[np.int64]
        self.arrival_s: Array
        self.start_s: Array
        self.due_s: Array
        self.behind: NDArray[np.int64]
        self.link_up: Mask

    def begin(self) -> None:
        """Each device's next request comes to its turn."""
        arrivals = self._paths.arrivals_s
        self.arrival_s = arrivals[self.requests]
        self.sample = self._paths.samples[self.requests]
        self.requests += 1
        self.start_s = np.maximum(self.arrival_s, self._free_s)
        self.due_s = self.arrival_s + self._config.deadline_s
        self.behind = np.zeros(len(self.start_s), np.int64)
        for later in arrivals[self.requests :]:
            waits = later <= self.start_s
            if not waits.any():
                break
            self.behind += waits
        self.link_up = self.start_s >= self._up_from_s

    def send(
        self, where: Mask, now_s: Array, answer_by_s: Array, nbytes: Array, server_s: Array
    ) -> tuple[Array, Mask]:
        """Send where `where`; returns when this ended, and whether with a reply (`now_s`, False elsewhere)."""
        send_s = now_s + self._config.overhead_s
        sent = where & (send_s < answer_by_s)
        row, path, half_s = self.requests - 1, self._path, self._half_trip_s
        up_s, up_done_s = self._uplink.send(sent, send_s, nbytes, self._paths.uniform_up[row])
        received_s = up_done_s + half_s
        begun_s = np.maximum(received_s, self._server_free_s)
        works = sent & (begun_s < answer_by_s)
        replied_s = begun_s + server_s
        np.copyto(self._server_free_s, replied_s, where=works)
        down_s, down_done_s = self._downlink.send(
            works, np.where(works, replied_s, 0.0), self._reply_bytes, self._paths.uniform_down[row]
        )
        delivered_s = down_done_s + half_s
        replied = works & (delivered_s < answer_by_s)
        self._airtime_up_s, self._airtime_down_s = up_s, down_s
        at_s = np.where(replied, delivered_s, now_s)
        with np.errstate(invalid="ignore"):
            trip_s = delivered_s - now_s - (replied_s - received_s) - up_s - down_s
        snr_db, rate_bps = self._report(at_s)
        self.estimates.reply(replied, at_s, snr_db, rate_bps, trip_s, 0.0)
        lost = sent & ~replied
        if lost.any():
            self.estimates.no_reply(lost, answer_by_s, nbytes, answer_by_s - now_s)
            places = np.flatnonzero(lost)
            self._up_from_s[places] = self._found_up(answer_by_s[places], path[places])
            np.copyto(at_s, answer_by_s, where=lost)
        np.copyto(at_s, send_s, where=where & ~sent)
        return at_s, replied

    def _report(self, t: Array) -> tuple[Array, Array]:
        """What the modems say of SNR and rate at t."""
        report = self._config.report
        measured_s = np.maximum(t - report.delay_s, 0.0)
        snr_db = self._bank.snr_db(measured_s, self._path)
        if report.sigma_db:
            snr_db = snr_db + report.sigma_db * self._paths.normal[self.requests - 1]
        if report.step_db:
            snr_db = report.step_db * np.floor(snr_db / report.step_db + 0.5)
        rate_bps = self._bank.rate_at(snr_db)
        return snr_db, np.minimum(rate_bps, self._uplink.rate_bps(measured_s))

    def _found_up(self, lost_s: Array, path: NDArray[np.int64]) -> Array:
        """When a probe of each lost link is first answered."""
        probe_s = lost_s.copy()
        while (down := ~self._bank.up(probe_s, path)).any():
            probe_s[down] += self._config.probe_s
        return probe_s + self._bank.round_trip_s

    def finish(
        self,
        done_s: Array,
        head_s: Array,
        correct: Mask,
        tried: Mask,
        replied: Mask,
        sent_s: Array,
        answer_by_s: Array,
    ) -> dict[str, Array | Mask]:
        """Charge the devices; the answers are there at `done_s`. The fields of `solo.Result`, each (N,).

        tried: a request was to be sent, at `sent_s`, or until `answer_by_s` where none replied.
        """
        weights, power = self._config.weights, self._config.power
        failed_s = np.where(tried, tried_s(sent_s, answer_by_s, done_s), 0.0)
        up_s = np.where(replied, self._airtime_up_s, failed_s)
        down_s = np.where(replied, self._airtime_down_s, 0.0)
        wait_s = np.where(replied, waited_s(sent_s, done_s, up_s, down_s), 0.0)
        energy = energy_j(power, head_s, up_s, down_s, wait_s)
        self.energy_left_j -= energy
        self._free_s = done_s
        latency_s = done_s - self.arrival_s
        late = latency_s > weights.deadline_s
        airtime_s = up_s + down_s
        reward = utility(correct.astype(float), latency_s, energy, airtime_s, late.astype(float), weights)
        return {
            "reward": reward,
            "correct": correct,
            "latency_s": latency_s,
            "energy_j": energy,
            "airtime_up_s": up_s,
            "airtime_down_s": down_s,
            "late": late,
        }


def _media(config: object, bank: LinkBank, path: NDArray[np.int64]) -> Media:
    if isinstance(config, MahimahiConfig):
        return MahimahiMedia(config, bank, path)
    # With one device to a medium, all others are first in, first out.
    return FifoMedia(bank, path, packets_at_submission=isinstance(config, RoundRobinConfig))
