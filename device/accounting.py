"""What one request cost its device: defined once for virtual and real time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..policies.rules import Power, energy_j, tried_s, waited_s
from .effects import Answer

__all__ = ["Costs", "Trip", "costs", "joined", "share", "shared_costs"]


@dataclass(slots=True)
class Trip:
    """One offloaded request's way. Seconds; NaN for what did not happen or is not known.

    uplink_s, downlink_s: from sending to delivery, waiting for the medium and propagation included;
    airtime_*_s: on the air only; server_s: from receipt to reply; load: requests on the server at the reply;
    snr_db, rate_bps: the modem's report that came with the reply; channel_uses: complex symbols sent, which are no
    bytes. Where a quorum answered: votes, opinions at the gate that decided; asked, learners that did any work;
    quorum_macs, the work behind all opinions. Else 0.
    """

    sent_s: float
    uplink_bytes: int
    downlink_bytes: int = 0
    uplink_s: float = math.nan
    server_s: float = math.nan
    downlink_s: float = math.nan
    airtime_up_s: float = math.nan
    airtime_down_s: float = math.nan
    load: float = math.nan
    snr_db: float = math.nan
    rate_bps: float = math.nan
    channel_uses: int = 0
    votes: int = 0
    asked: int = 0
    quorum_macs: int = 0


class Costs(NamedTuple):
    """head_s: computing on the device; airtimes in seconds; energy in joules."""

    head_s: float
    airtime_up_s: float
    airtime_down_s: float
    energy_j: float


# With a tuple of all fields: several times cheaper than a NamedTuple's constructor.
_new = tuple.__new__


def joined(first: Trip, second: Trip, answer: Answer, answer_by_s: float) -> Trip:
    """Both messages of a refined request as one trip.

    Where the second got no reply (the answer is then degraded), its air time is what the radio tried for, as in
    `costs`, and the rest of what is known is the first's.
    """
    lost = answer.degraded
    if lost:
        up_s, down_s = tried_s(second.sent_s, answer_by_s, answer.done_s), 0.0
    else:
        up_s, down_s = second.airtime_up_s, second.airtime_down_s
    known = first if lost else second
    return Trip(
        first.sent_s,
        first.uplink_bytes + second.uplink_bytes,
        first.downlink_bytes + (0 if lost else second.downlink_bytes),
        first.uplink_s + second.uplink_s,
        first.server_s + second.server_s,
        first.downlink_s + second.downlink_s,
        first.airtime_up_s + up_s,
        first.airtime_down_s + down_s,
        known.load,
        known.snr_db,
        known.rate_bps,
        first.channel_uses + second.channel_uses,
    )


def share(whole: Trip, place: int, count: int) -> Trip:
    """The part of a merged request's trip that one of its `count` samples is charged for: bytes and air time.

    What is left over from dividing the bytes goes to the first places. Delays are everybody's.
    """

    def part(nbytes: int) -> int:
        return nbytes // count + (place < nbytes % count)

    return replace(
        whole,
        uplink_bytes=part(whole.uplink_bytes),
        downlink_bytes=part(whole.downlink_bytes),
        airtime_up_s=whole.airtime_up_s / count,
        airtime_down_s=whole.airtime_down_s / count,
    )


def shared_costs(
    answer: Answer, whole: Trip | None, count: int, head_s: float, answer_by_s: float, power: Power
) -> Costs:
    """Costs of one of `count` samples that were sent together: its own computing, and its share of the radio's."""
    if whole is None:
        return costs(answer, None, head_s, answer_by_s, power)
    radio = costs(answer, whole, 0.0, answer_by_s, power)
    return Costs(
        head_s,
        radio.airtime_up_s / count,
        radio.airtime_down_s / count,
        power.cpu_w * head_s + radio.energy_j / count,
    )


def costs(answer: Answer, trip: Trip | None, head_s: float, answer_by_s: float, power: Power) -> Costs:
    """Costs of a request that took `head_s` of computing.

    Where no reply came, nothing was measured: the radio is charged for all the time that it tried, from the
    sending to `answer_by_s`, or to the moment when the link was found to be down.
    """
    if trip is None:
        return _new(Costs, (head_s, 0.0, 0.0, power.cpu_w * head_s))
    if answer.local:
        on_air_s = tried_s(trip.sent_s, answer_by_s, answer.done_s)
        return _new(Costs, (head_s, on_air_s, 0.0, energy_j(power, head_s, on_air_s, 0.0, 0.0)))
    up_s, down_s = trip.airtime_up_s, trip.airtime_down_s
    wait_s = waited_s(trip.sent_s, answer.done_s, up_s, down_s)
    return _new(Costs, (head_s, up_s, down_s, energy_j(power, head_s, up_s, down_s, wait_s)))
