"""Many devices, each alone on its media and with its server: `solo.Solo` on arrays.

The same steps as there, all copies at once. Each step is done for all of them and kept where it holds: with some
hundred copies, an operation costs about the same whether it is done on some of them or on all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...channel.config import MahimahiConfig, RoundRobinConfig
from ..features import FEATURES, feature_rows
from ..rules import energy_j, tried_s, utility_parts, waited_s
from .bank import LinkBank, lossless_bits
from .config import EnvironmentConfig
from .estimates import LinkEstimates
from .lookup_rows import Heads, Requests
from .media import FifoMedia, MahimahiMedia, Media
from .reports import Modems

__all__ = ["Many", "Paths", "Trips"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_QUEUE, _ENERGY, _TIME_LEFT, _LINK_UP = (
    [feature.name for feature in FEATURES].index(name)
    for name in ("device_queue", "energy", "time_left", "link_up")
)
_LOG2 = np.log2(np.arange(1.0, 1026.0))
"""Of 1 + requests that wait, beyond the range of its feature."""

_ROWS = 8
"""Later requests that are looked at together: more seldom wait."""


class Paths(NamedTuple):
    """The sample paths of N copies; first axis is the request, so that a step reads one row.

    arrivals_s, samples   (K + 1, N), times on the bank's clock
    uniform_up, uniform_down, normal    (K + 1, N), draws of the losses each way and of the errors in reports
    own_normal            (M, N), draws of the errors in what modems measure by themselves; used in turn
    bank, path            the links, and which of them each copy is on, int64 (N,)
    """

    arrivals_s: Array
    samples: NDArray[np.int64]
    uniform_up: Array
    uniform_down: Array
    normal: Array
    own_normal: Array
    bank: LinkBank
    path: NDArray[np.int64]


class Trips(NamedTuple):
    """What came of the sending, (N,).

    replied        whether a reply came in time
    done_s         when the sending ended, with a reply or without; where nothing was to be sent, when it would begin
    up_s, down_s   airtimes where `replied`
    """

    replied: Mask
    done_s: Array
    up_s: Array
    down_s: Array


class Many:
    """The memory of N devices along their paths; fields are (N,), times on the bank's clock.

    answer_s   when the request of the turn must be answered
    left_s     from its turn to its deadline
    """

    def __init__(self, config: EnvironmentConfig, paths: Paths, modems: Modems, reply_bytes: int) -> None:
        self._config, self._paths, self._bank, self._modems = config, paths, paths.bank, modems
        copies = len(paths.path)
        self._origin_s = origin_s = paths.bank.origin_s[paths.path]
        self._errors, self._own_errors = modems.errors(paths.normal), modems.errors(paths.own_normal)
        self._copy = np.arange(copies)
        self._uplink, self._downlink = (
            _media(medium, paths.bank, origin_s) for medium in (config.uplink, config.downlink)
        )
        self._reply_bytes = np.full(copies, reply_bytes)
        self._reply_bits = lossless_bits(self._reply_bytes)
        # As arrays without axes, which NumPy takes as they are: a float's type is looked for each time.
        self._deadline_s, self._slack_s, self._overhead_s, self._half_trip_s, self._zero_s = map(
            np.array,
            (config.deadline_s, config.slack_s, config.overhead_s, 0.5 * paths.bank.round_trip_s, 0.0),
        )
        self._columns = np.zeros((len(FEATURES), copies))
        self._columns[_ENERGY] = 1.0
        self._estimates = LinkEstimates(self._columns[:5], config.coherence_s)
        self._energy_left_j = np.full(copies, config.battery_j)
        self._free_s, self._server_free_s = origin_s.copy(), origin_s.copy()
        self._up_from_s = np.full(copies, -np.inf)
        # Energy and utility are sums of terms, each in proportion to one quantity: their factors.
        self._watts = energy_j(config.power, *np.eye(4))
        parts = utility_parts(1.0, 1.0, 1.0, 1.0, 1.0, config.weights)
        self._part_names, self._prices = tuple(parts), np.array([*parts.values()])
        # Arrays of one shape are multiplied much faster than others.
        self._prices_of_all = np.repeat(self._prices[:, None], copies, axis=1)
        self.requests = 0
        self.sample: NDArray[np.int64]
        self.arrival_s: Array
        self.start_s: Array
        self.answer_s: Array
        self.left_s: Array
        self.link_up: Mask

    def begin(self) -> NDArray[np.float32]:
        """Each device's next request comes to its turn: what the devices know then, (N, len(FEATURES))."""
        config, columns = self._config, self._columns
        self.arrival_s = self._paths.arrivals_s[self.requests]
        self.sample = self._paths.samples[self.requests]
        self.requests += 1
        self.start_s = np.maximum(self.arrival_s, self._free_s)
        due_s = self.arrival_s + self._deadline_s
        self.answer_s = due_s - self._slack_s
        self.left_s = due_s - self.start_s
        self.link_up = self.start_s > self._up_from_s
        if self._modems.every_s is not None:
            self._hear()
        self._estimates.look(self.start_s)
        columns[_QUEUE] = _LOG2.take(self._behind(), mode="clip")
        if config.battery_j < np.inf:
            columns[_ENERGY] = self._energy_left_j / config.battery_j
        np.divide(self.left_s, self._deadline_s, out=columns[_TIME_LEFT])
        columns[_LINK_UP] = self.link_up
        return feature_rows(columns)

    def _hear(self) -> None:
        """What the modems last measured by themselves; who hears nothing does not send."""
        index, measured_s, known_s = self._modems.newest(self.start_s, self._origin_s)
        known = index >= 0
        if self._bank.outages:
            heard = known & self._bank.up(measured_s)
            self.link_up &= heard >= known
            known = heard
        self._estimates.report(
            known & self._estimates.is_news(known_s),
            known_s,
            self._read(measured_s, self._own_errors[index % len(self._own_errors), self._copy]),
        )

    def _behind(self) -> NDArray[np.int64]:
        """How many later requests wait already, (N,)."""
        behind = np.zeros(len(self.start_s), np.int64)
        arrivals_s = self._paths.arrivals_s
        for row in range(self.requests, len(arrivals_s), _ROWS):
            waits = arrivals_s[row : row + _ROWS] <= self.start_s
            behind += np.add.reduce(waits.view(np.int8), axis=0, dtype=np.int8)
            if not np.count_nonzero(waits[-1]):
                break
        return behind

    def send(self, where: Mask, now_s: Array, answer_by_s: Array, request: Requests) -> Trips:
        """Send where `where`, at `now_s`; who has no reply by `answer_by_s` waits no longer."""
        row, half_s = self.requests - 1, self._half_trip_s
        send_s = now_s + self._overhead_s
        sent = where & (send_s < answer_by_s)
        arrived, up_s, received_s = self._uplink.send(
            sent, send_s, request.nbytes, request.bits, self._paths.uniform_up[row]
        )
        received_s += half_s
        begun_s = np.maximum(received_s, self._server_free_s)
        # The server drops what nobody waits for any more.
        works = arrived & (begun_s < answer_by_s)
        replied_s = begun_s + request.seconds
        np.putmask(self._server_free_s, works, replied_s)
        arrived, down_s, delivered_s = self._downlink.send(
            works, replied_s, self._reply_bytes, self._reply_bits, self._paths.uniform_down[row]
        )
        delivered_s += half_s
        replied = arrived & (delivered_s < answer_by_s)
        rest_s = delivered_s - now_s
        rest_s -= replied_s - received_s
        rest_s -= up_s + down_s
        measured_s = self._modems.measured_s(delivered_s, self._origin_s)
        self._estimates.report(replied, delivered_s, self._read(measured_s, self._errors[row]))
        self._estimates.reply(replied, np.maximum(rest_s, self._zero_s) / self._deadline_s)
        done_s = now_s.copy()
        np.putmask(done_s, where, send_s)
        lost = sent > replied
        if np.count_nonzero(lost):
            np.putmask(done_s, lost, answer_by_s)
            self._estimates.no_reply(lost, answer_by_s, request.nbytes, answer_by_s - now_s)
            np.putmask(self._up_from_s, lost, self._found_up(answer_by_s))
        np.putmask(done_s, replied, delivered_s)
        return Trips(replied, done_s, up_s, down_s)

    def _read(self, measured_s: Array, errors: Array) -> Array:
        """What the modems say of what they measured."""
        report = self._modems.read(measured_s, errors)
        limit_bps = self._uplink.rate_bps(measured_s)
        if limit_bps is not None:
            report[1] = np.minimum(report[1], np.log10(np.maximum(limit_bps, 1.0)) - 6.0)
        return report

    def _found_up(self, lost_s: Array) -> Array:
        """When a probe of each lost link is first answered."""
        probe_s = lost_s
        while self._bank.outages and (down := ~self._bank.up(probe_s)).any():
            probe_s = probe_s + self._config.probe_s * down
        return probe_s + self._bank.round_trip_s

    def finish(
        self, heads: Heads, sent: Mask, now_s: Array, answer_by_s: Array, trips: Trips, correct: Mask
    ) -> dict[str, Any]:
        """Charge the devices. What `solo.Result` says, arrays (N,).

        sent: who sent, or was about to, at `now_s`, and waited until `answer_by_s`
        """
        config, replied = self._config, trips.replied
        fall_s = heads.fall_s.copy()
        np.putmask(fall_s, replied, 0.0)
        done_s = trips.done_s + fall_s
        told = replied.astype(float)
        # As a device's power has them: computing, sending, receiving, waiting.
        seconds = np.empty((4, len(done_s)))
        np.add(heads.seconds, fall_s, out=seconds[0])
        up_s = np.multiply(trips.up_s, told, out=seconds[1])
        down_s = np.multiply(trips.down_s, told, out=seconds[2])
        np.multiply(waited_s(now_s, done_s, up_s, down_s), told, out=seconds[3])
        np.putmask(up_s, sent > replied, tried_s(now_s, answer_by_s, done_s))
        self._free_s = done_s
        # As the utility has them: correct, latency, energy, airtime, late.
        terms = np.empty((5, len(done_s)))
        terms[0] = correct
        latency_s = np.subtract(done_s, self.arrival_s, out=terms[1])
        energy = np.dot(self._watts, seconds, out=terms[2])
        np.add(up_s, down_s, out=terms[3])
        terms[4] = late = latency_s > self._deadline_s
        if config.battery_j < np.inf:
            self._energy_left_j -= energy
        parts = terms * self._prices_of_all
        return {
            "reward": np.dot(self._prices, terms),
            "correct": correct,
            "latency_s": latency_s,
            "energy_j": energy,
            "airtime_up_s": up_s,
            "airtime_down_s": down_s,
            "late": late,
            "reward_parts": {name: parts[row] for row, name in enumerate(self._part_names)},
        }


def _media(config: object, bank: LinkBank, origin_s: Array) -> Media:
    if isinstance(config, MahimahiConfig):
        return MahimahiMedia(config, bank, origin_s)
    # With one device to a medium, all others are first in, first out.
    return FifoMedia(bank, origin_s, packets_at_submission=isinstance(config, RoundRobinConfig))
