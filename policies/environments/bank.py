"""Links of many copies as arrays: the arithmetic of `channel/link.py` on all copies at once.

Paths lie one after the other on one axis of slots, so that one search over their cumulative bits serves every copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...channel.link import GIVE_UP_S, SlottedLink
from ...channel.outages import Outages
from ...channel.path import CHUNK
from ...channel.rate import HEADER_BYTES, PACKET_BYTES
from ...channel.retransmission import lost_packets

__all__ = ["LinkBank"]

Array = NDArray[np.float64]
_LARGE = 40.0


class LinkBank:
    """P equal links along `seconds` each. Copies hold the index of the path that they are on, int64 (N,).

    Times are seconds on each copy's own path, float64 (N,); beyond the path's end its last slot goes on.
    """

    def __init__(self, links: Sequence[SlottedLink], seconds: float) -> None:
        first = links[0]
        self.round_trip_s = first.round_trip_s
        self._rate = first.rate
        self._slot_s = first.slot_s
        self._slots_per_s = 1.0 / first.slot_s
        chunks = math.ceil(seconds / first.slot_s / CHUNK)
        self._length = chunks * CHUNK
        self._path_s = self._length * first.slot_s
        drawn = [link.slots(chunk) for link in links for chunk in range(chunks)]
        bits = np.concatenate([bits for _, bits in drawn])
        self._carried = np.concatenate([[0.0], np.cumsum(bits)])
        self._snr_db = np.concatenate([samples.snr_db for samples, _ in drawn])
        self._loss = first.loss
        self._slot_loss: Array | None = None
        if drawn[0][0].loss is not None:
            self._slot_loss = np.concatenate([s.loss for s, _ in drawn if s.loss is not None])
            self._lost = np.concatenate([[0.0], np.cumsum(bits * self._slot_loss)])
        windows = [
            (begin + place * self._path_s, end + place * self._path_s)
            for place, link in enumerate(links)
            for begin, end in _windows(link.outages, self._path_s)
        ]
        # One more that never comes, so that a search always finds one.
        self._begins, self._ends = np.array([*windows, (math.inf, math.inf)]).T
        self._outages = bool(windows)

    def __len__(self) -> int:
        return len(self._snr_db) // self._length

    def _slot(self, t: Array, path: NDArray[np.int64]) -> NDArray[np.int64]:
        slot = (t * self._slots_per_s).astype(np.int64)
        np.minimum(slot, self._length - 1, out=slot)
        slot += path * self._length
        return slot

    def snr_db(self, t: Array, path: NDArray[np.int64]) -> Array:
        """True SNR in dB."""
        return self._snr_db[self._slot(t, path)]

    def rate_at(self, snr_db: Array) -> Array:
        """Bit/s that the links would have at this SNR."""
        return self._rate.over(snr_db)

    def up(self, t: Array, path: NDArray[np.int64]) -> NDArray[np.bool_]:
        """False inside an outage."""
        return self._outage_begin(t, path) > t

    def _outage_begin(self, t: Array, path: NDArray[np.int64]) -> Array:
        """Begin of the first outage that ends after t, on the path's own clock."""
        origin = path * self._path_s
        place = np.searchsorted(self._ends, t + origin, side="right")
        return np.where(self._ends[place] <= origin + self._path_s, self._begins[place] - origin, np.inf)

    def cut_off(self, t: Array, path: NDArray[np.int64]) -> Array:
        """When a transfer that began at t, and was swallowed, leaves the air."""
        given_up = t + GIVE_UP_S
        if not self._outages:
            return given_up
        return np.maximum(t, np.minimum(self._outage_begin(t, path), given_up))

    def transfer_time(self, nbytes: Array, t: Array, path: NDArray[np.int64], uniform: Array) -> Array:
        """Seconds until `nbytes` have left the air, infinite if swallowed; uniform: the draw of the losses."""
        count, bits = self.packets(nbytes, t, path, uniform)
        return self.air_time(count * bits, t, path)

    def packets(
        self, nbytes: Array, t: Array, path: NDArray[np.int64], uniform: Array
    ) -> tuple[Array, Array]:
        """(packets to be sent, lost ones again included; bits in each, header included)."""
        count = np.maximum(np.ceil(nbytes / PACKET_BYTES), 1.0)
        bits = 8.0 * (nbytes + HEADER_BYTES * count) / count
        if self._slot_loss is not None:
            lost = np.zeros_like(count)
            for _ in range(4):
                duration = self._integrate((count + lost) * bits, t, path)
                lost = _lost(count, self._mean_loss(t, duration, path), uniform)
            count = count + lost
        elif self._loss:
            count = count + _lost(count, np.full_like(count, self._loss), uniform)
        return count, bits

    def air_time(self, bits: Array, t: Array, path: NDArray[np.int64]) -> Array:
        """Seconds that `bits` take from t with nothing added; infinite if swallowed."""
        slot = self._slot(t, path)
        slot_bits = self._carried[slot + 1] - self._carried[slot]
        slot -= path * self._length
        left_s = (slot + 1) * self._slot_s - t
        needed = bits * self._slot_s
        fits = needed <= slot_bits * left_s
        duration = np.divide(needed, slot_bits, out=np.empty_like(needed), where=fits)
        rest = np.flatnonzero(~fits)
        if len(rest):
            duration[rest] = self._integrate(bits[rest], t[rest], path[rest])
        if self._outages:
            duration[self._outage_begin(t, path) < t + duration] = np.inf
        return duration

    def _integrate(self, bits: Array, t: Array, path: NDArray[np.int64]) -> Array:
        slot = self._slot(t, path)
        carried = self._carried
        begin = carried[slot]
        origin = path * self._length
        target = begin + (carried[slot + 1] - begin) * (t * self._slots_per_s - (slot - origin)) + bits
        after = np.minimum(np.searchsorted(carried, target, side="left"), len(carried) - 1)
        np.maximum(after, slot + 1, out=after)
        begin = carried[after - 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            part = (target - begin) / (carried[after] - begin)
        duration = ((after - 1 - origin) + part) * self._slot_s - t
        return np.where((duration <= GIVE_UP_S) & (target <= carried[-1]), duration, np.inf)

    def _mean_loss(self, t: Array, duration: Array, path: NDArray[np.int64]) -> Array:
        """Expected share of the bits carried in [t, t + duration] that is lost."""
        assert self._slot_loss is not None
        carried, lost = np.zeros_like(t), np.zeros_like(t)
        for sign, moment in ((-1.0, t), (1.0, t + np.minimum(duration, GIVE_UP_S))):
            slot = self._slot(moment, path)
            part = moment * self._slots_per_s - (slot - path * self._length)
            carried += sign * (self._carried[slot] + part * (self._carried[slot + 1] - self._carried[slot]))
            lost += sign * (self._lost[slot] + part * (self._lost[slot + 1] - self._lost[slot]))
        here = self._slot_loss[self._slot(t, path)]
        return np.divide(lost, carried, out=here, where=carried > 0.0)


def _windows(outages: Outages | None, until_s: float) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    t = 0.0
    while outages is not None:
        begin, end = outages.window(t)
        if begin >= until_s:
            break
        # An outage that outlasts the path is one to its end.
        found.append((begin, min(end, until_s)))
        t = end
    return found


def _lost(packets: Array, loss: Array, uniform: Array) -> Array:
    """`lost_packets` on arrays."""
    lost = np.zeros_like(packets)
    mean = packets * loss / (1.0 - loss)
    for place in np.flatnonzero(mean > _LARGE).tolist():
        lost[place] = lost_packets(int(packets[place]), float(loss[place]), float(uniform[place]))
    probability = np.exp(packets * np.log1p(-loss))
    cumulative = probability.copy()
    more = (cumulative <= uniform) & (mean <= _LARGE) & (loss > 0.0)
    while more.any():
        np.multiply(probability, loss * (packets + lost) / (lost + 1.0), out=probability, where=more)
        lost += more
        np.add(cumulative, probability, out=cumulative, where=more)
        more &= (cumulative <= uniform) & (probability > 1e-18)
    return lost
