"""Links of many copies as arrays: the arithmetic of `channel/link.py` on all copies at once.

    path 0          path 1          path 2              bank's clock ─►
    |slots ... ... |slots ... ... |slots ... ... |      carried bits, cumulative over all of it

Paths lie one after the other on one clock. A copy on path p reckons from `origin_s[p]`; then one cumulative list of
bits serves all copies, and a transfer ends where the list reaches what was carried at its begin plus its bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...channel.link import GIVE_UP_S
from ...channel.outages import Outages
from ...channel.path import CHUNK
from ...channel.rate import HEADER_BYTES, PACKET_BYTES
from ...channel.slotted_link import SlottedLink
from .losses import lost_packet_rows

__all__ = ["LinkBank", "lossless_bits"]

Array = NDArray[np.float64]

_SLOWEST_BPS = 1e-6
"""Slots carry at least this; with less, not even an empty message's header would pass in any time that counts."""

# Without axes: NumPy takes it as it is, and looks for a float's type each time.
_GIVE_UP_S = np.array(GIVE_UP_S)

_AHEAD = 8
"""In so many slots after the first nearly all transfers end; as truth values they make one number of 64 bits."""


class LinkBank:
    """P equal links along at least `seconds` each. Times are float64 (N,) on the bank's clock.

    origin_s   (P,) where each path begins
    snr_db     of every slot, true
    """

    def __init__(self, links: Sequence[SlottedLink], seconds: float) -> None:
        first = links[0]
        self.round_trip_s = first.round_trip_s
        self.rate = first.rate
        self._slots_per_s = np.array(1.0 / first.slot_s)
        chunks = math.ceil(seconds / first.slot_s / CHUNK)
        path_s = chunks * CHUNK * first.slot_s
        self.origin_s: Array = np.arange(len(links), dtype=np.float64) * path_s
        # The first once more behind the last, for who runs over the end.
        drawn = [link.slots(chunk) for link in (*links, first) for chunk in range(chunks)]
        bits = np.concatenate([bits for _, bits in drawn])
        self.snr_db: Array = np.concatenate([samples.snr_db for samples, _ in drawn])
        carried = np.cumsum(bits)
        bps = bits * self._slots_per_s
        # A row a slot, so that one look-up gives all of it: its end, seconds to a bit, bits carried to its end, rate.
        # One row more, where transfers end that do not.
        rows = np.empty((len(bits) + 1, 4))
        rows[:-1, 0] = np.arange(1, len(bits) + 1) * first.slot_s
        rows[:-1, 1] = 1.0 / np.maximum(bps, _SLOWEST_BPS)
        rows[:-1, 2] = carried
        rows[:-1, 3] = bps
        rows[-1] = np.inf, 0.0, 0.0, 0.0
        self._slots, self._end_rows = rows[:-1], rows
        self._carried = carried
        # What is carried to the ends of the next slots, as records that overlap: one look-up, and nothing kept twice.
        ahead = np.concatenate([carried[1:], np.full(_AHEAD, np.inf)])
        self._ahead = np.ndarray(len(bits), f"V{_AHEAD * ahead.itemsize}", ahead, strides=ahead.strides)
        self._loss = first.loss
        self._slot_loss: Array | None = None
        if drawn[0][0].loss is not None:
            self._slot_loss = np.concatenate([s.loss for s, _ in drawn if s.loss is not None])
            self._lost = np.concatenate([[0.0], np.cumsum(bits * self._slot_loss)])
        self.lossless = self._slot_loss is None and not self._loss
        windows = [
            (begin + place * path_s, end + place * path_s)
            for place, link in enumerate(links)
            for begin, end in _windows(link.outages, path_s)
        ]
        # One more that never comes, so that a search always finds one.
        self._begins, self._ends = np.array([*windows, (math.inf, math.inf)]).T
        self.outages = bool(windows)

    def __len__(self) -> int:
        return len(self.origin_s)

    def slot(self, t: Array) -> NDArray[np.int64]:
        """The slot that t lies in."""
        return (t * self._slots_per_s).astype(np.int64)

    def outage_begin(self, t: Array) -> Array:
        """Begin of the first outage that ends after t; infinite where there is none."""
        return self._begins[self._ends.searchsorted(t, side="right")]

    def up(self, t: Array) -> NDArray[np.bool_]:
        """False inside an outage."""
        return self.outage_begin(t) > t

    def cut_off(self, t: Array) -> Array:
        """When a transfer that began at t, and was swallowed, leaves the air."""
        return np.maximum(t, np.minimum(self.outage_begin(t), t + GIVE_UP_S))

    def swallows(self, t: Array, air_s: Array) -> NDArray[np.bool_]:
        """Whether a transfer that begins at t and takes `air_s` meets an outage, or takes too long."""
        too_long = air_s > _GIVE_UP_S
        return too_long | (self.outage_begin(t) < t + air_s) if self.outages else too_long

    def air_bits(
        self, where: NDArray[np.bool_], nbytes: NDArray[np.int64], bits: Array, t: Array, uniform: Array
    ) -> Array:
        """Bits on the air for messages of `nbytes`, which without losses are `bits`; packets sent again included.

        uniform: the draw of each message's losses.
        """
        if self.lossless:
            return bits
        count = _packet_count(nbytes)
        if self._slot_loss is not None:
            lost = np.zeros_like(count)
            for _ in range(4):
                air_s = np.minimum(self.air_s(where, bits * (1.0 + lost / count), t), GIVE_UP_S)
                lost = lost_packet_rows(count, self._mean_loss(t, t + air_s), uniform)
        else:
            lost = lost_packet_rows(count, np.full_like(count, self._loss), uniform)
        return bits * (1.0 + lost / count)

    def air_s(self, where: NDArray[np.bool_], bits: Array, t: Array) -> Array:
        """Seconds from t in which so many bits leave the air, were there no outages. Holds where `where`."""
        slot = self.slot(t)
        slots = self._slots.take(slot, axis=0, mode="clip")
        left_s = slots[:, 0] - t
        air_s: Array = bits * slots[:, 1]
        # Short messages end in the slot that they begin in.
        later = (where & (air_s > left_s)).nonzero()[0]
        if len(later):
            begun = slots.take(later, axis=0)
            target = begun[:, 2] + np.maximum(bits[later] - left_s[later] * begun[:, 3], 0.0)
            ends = self._end_rows.take(self._end_slot(slot[later], target), axis=0, mode="clip")
            air_s[later] = ends[:, 0] - (ends[:, 2] - target) * ends[:, 1] - t[later]
        return air_s

    def _end_slot(self, slot: NDArray[np.int64], target: Array) -> NDArray[np.int64]:
        """The slot after `slot` in which the bits carried reach `target`; one behind the last where none does."""
        ahead = self._ahead[np.minimum(slot, len(self._ahead) - 1)].view(np.float64).reshape(-1, _AHEAD)
        short = np.bitwise_count((ahead < target[:, None]).view(np.uint64)[:, 0])
        end = slot + 1
        end += short
        beyond = (short == _AHEAD).nonzero()[0]
        if len(beyond):
            end[beyond] = self._carried.searchsorted(target[beyond])
        return end

    def _mean_loss(self, t: Array, end: Array) -> Array:
        """Expected share of the bits carried in [t, end] that is lost."""
        assert self._slot_loss is not None
        lost, carried = np.zeros_like(t), np.zeros_like(t)
        for sign, moment in ((-1.0, t), (1.0, end)):
            slot = np.minimum(self.slot(moment), len(self._carried) - 1)
            slots = self._slots[slot]
            left = (slots[:, 0] - moment) * self._slots_per_s
            lost += sign * (self._lost[slot + 1] - left * (self._lost[slot + 1] - self._lost[slot]))
            carried += sign * (slots[:, 2] - (slots[:, 0] - moment) * slots[:, 3])
        here = self._slot_loss.take(self.slot(t), mode="clip")
        return np.divide(lost, carried, out=here, where=carried > 0.0)


def _packet_count(nbytes: NDArray[np.int64]) -> Array:
    """Packets of messages, as float64."""
    return np.maximum(np.ceil(nbytes / PACKET_BYTES), 1.0)


def lossless_bits(nbytes: NDArray[np.int64]) -> Array:
    """Bits on the air for messages of `nbytes`, headers included, if no packet is lost."""
    return 8.0 * (nbytes + HEADER_BYTES * _packet_count(nbytes))


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
