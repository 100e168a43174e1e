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

from ...channel.link import GIVE_UP_S, SlottedLink
from ...channel.outages import Outages
from ...channel.path import CHUNK
from ...channel.rate import HEADER_BYTES, PACKET_BYTES
from .losses import lost_packet_rows

__all__ = ["LinkBank", "lossless_bits"]

Array = NDArray[np.float64]

_FINE = 2
"""Entries of the index to a slot of mean size."""

_STEPS = 2
"""Slots that are walked from where the index points to, before a search does the rest."""


class LinkBank:
    """P equal links along at least `seconds` each. Times are float64 (N,) on the bank's clock.

    origin_s   (P,) where each path begins
    """

    def __init__(self, links: Sequence[SlottedLink], seconds: float) -> None:
        first = links[0]
        self.round_trip_s = first.round_trip_s
        self.rate = first.rate
        self._slot_s = first.slot_s
        self._slots_per_s = 1.0 / first.slot_s
        chunks = math.ceil(seconds / first.slot_s / CHUNK)
        path_s = chunks * CHUNK * first.slot_s
        self.origin_s: Array = np.arange(len(links), dtype=np.float64) * path_s
        # The first once more behind the last, for who runs over the end.
        drawn = [link.slots(chunk) for link in (*links, first) for chunk in range(chunks)]
        bits = np.concatenate([bits for _, bits in drawn])
        self._carried = np.concatenate([[0.0], np.cumsum(bits)])
        self._snr_db = np.concatenate([samples.snr_db for samples, _ in drawn])
        self._index, self._index_per_bit = _index(self._carried)
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

    def snr_db(self, t: Array) -> Array:
        """True SNR in dB."""
        return self._snr_db[(t * self._slots_per_s).astype(np.int64)]

    def outage_begin(self, t: Array) -> Array:
        """Begin of the first outage that ends after t; infinite where there is none."""
        return self._begins[self._ends.searchsorted(t, side="right")]

    def up(self, t: Array) -> NDArray[np.bool_]:
        """False inside an outage."""
        return self.outage_begin(t) > t

    def cut_off(self, t: Array) -> Array:
        """When a transfer that began at t, and was swallowed, leaves the air."""
        return np.maximum(t, np.minimum(self.outage_begin(t), t + GIVE_UP_S))

    def air_bits(self, nbytes: Array, bits: Array, t: Array, uniform: Array) -> Array:
        """Bits on the air for messages of `nbytes`, which without losses are `bits`; packets sent again included.

        uniform: the draw of each message's losses.
        """
        if self.lossless:
            return bits
        count = packet_count(nbytes)
        if self._slot_loss is not None:
            lost = np.zeros_like(count)
            for _ in range(4):
                end = np.minimum(self._end(bits * (1.0 + lost / count), t), t + GIVE_UP_S)
                lost = lost_packet_rows(count, self._mean_loss(t, end), uniform)
        else:
            lost = lost_packet_rows(count, np.full_like(count, self._loss), uniform)
        return bits * (1.0 + lost / count)

    def end(self, bits: Array, t: Array) -> Array:
        """When `bits` that begin at t have left the air; infinite if swallowed."""
        end = self._end(bits, t)
        if self.outages:
            end[self.outage_begin(t) < end] = np.inf
        return end

    def _end(self, bits: Array, t: Array) -> Array:
        carried = self._carried
        target, slot, begin, end = self._carried_at(t)
        target += bits
        # Short messages end in the slot that they begin in.
        later = (end < target).nonzero()[0]
        if len(later):
            slot[later] = found = self._slot_of(target[later])
            begin[later] = carried[found]
            end[later] = carried[found + 1]
        target -= begin
        end -= begin
        target /= np.maximum(end, 1e-300, out=end)
        target += slot
        target *= self._slot_s
        given_up = target > t + GIVE_UP_S
        if np.count_nonzero(given_up):
            target[given_up] = np.inf
        return target

    def _slot_of(self, target: Array) -> NDArray[np.int64]:
        """The slot in which so many bits will have been carried; the last one where they never are."""
        carried = self._carried
        place = (target * self._index_per_bit).astype(np.int64)
        np.minimum(place, len(self._index) - 1, out=place)
        slot = self._index[place]
        for _ in range(_STEPS):
            slot += carried[slot + 1] < target
        behind = (carried[slot + 1] < target).nonzero()[0]
        if len(behind):
            found = carried.searchsorted(target[behind], side="left") - 1
            slot[behind] = np.minimum(found, len(carried) - 2)
        return slot

    def _carried_at(self, t: Array) -> tuple[Array, NDArray[np.int64], Array, Array]:
        """Bits carried from the bank's begin to t; the slot of t, and the bits carried to its begin and to its end."""
        x = t * self._slots_per_s
        slot = x.astype(np.int64)
        begin, end = self._carried[slot], self._carried[slot + 1]
        x -= slot
        x *= end - begin
        x += begin
        return x, slot, begin, end

    def _mean_loss(self, t: Array, end: Array) -> Array:
        """Expected share of the bits carried in [t, end] that is lost."""
        assert self._slot_loss is not None
        lost = np.zeros_like(t)
        for sign, moment in ((-1.0, t), (1.0, end)):
            x = moment * self._slots_per_s
            slot = x.astype(np.int64)
            lost += sign * (self._lost[slot] + (x - slot) * (self._lost[slot + 1] - self._lost[slot]))
        carried = self._carried_at(end)[0] - self._carried_at(t)[0]
        here = self._slot_loss[(t * self._slots_per_s).astype(np.int64)]
        return np.divide(lost, carried, out=here, where=carried > 0.0)


def packet_count(nbytes: Array) -> Array:
    """Packets of messages, as float64."""
    return np.maximum(np.ceil(nbytes / PACKET_BYTES), 1.0)


def lossless_bits(nbytes: Array) -> Array:
    """Bits on the air for messages of `nbytes`, headers included, if no packet is lost."""
    return 8.0 * (nbytes + HEADER_BYTES * packet_count(nbytes))


def _index(carried: Array) -> tuple[NDArray[np.int64], float]:
    """For evenly spaced numbers of bits the last slot that begins below each; and entries per bit."""
    entries = _FINE * (len(carried) - 1)
    spacing = carried[-1] / entries
    edges = np.arange(entries) * spacing
    return np.maximum(np.searchsorted(carried, edges, side="left") - 1, 0), 1.0 / float(spacing)


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
