"""Finished requests of a run in virtual time, as they come in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from struct import Struct

import numpy as np

from ..device.session import Finished
from ..policies.decision import Decision
from .records import DTYPES

__all__ = ["Ledger"]

_DECIDED = tuple(field.name for field in dataclasses.fields(Decision))
_UNKNOWN = ("uplink_s", "server_s", "downlink_s")
_SENT = (
    "uplink_bytes", "channel_uses", "downlink_bytes", "votes", "asked", "quorum_macs", *_UNKNOWN,
    "airtime_up_s", "airtime_down_s",
)  # fmt: skip
_EVERY = tuple(name for name in DTYPES if name not in (*_DECIDED, *_SENT))
_NUMBER = "decision"
"""Which Decision served a request, and which request a trip belongs to: places in what the Ledger keeps."""


def _row(names: Sequence[str]) -> np.dtype:
    return np.dtype([(_NUMBER, np.int64), *((name, DTYPES[name]) for name in names)])


def _packer(row: np.dtype) -> Struct:
    """Makes such rows: standard sizes in this machine's order, nothing between."""
    return Struct("=" + "".join(row[name].char.replace("l", "q") for name in row.names or ()))


_REQUEST, _TRIP = _row(_EVERY), _row(_SENT)
_pack_request, _pack_trip = _packer(_REQUEST).pack, _packer(_TRIP).pack


class Ledger:
    """Kept as packed rows: no value is an object, for a run may have millions of requests.

    What only offloaded requests have is kept for those only, and a Decision once for all requests that it served:
    the engines' hot path is here.
    """

    def __init__(self) -> None:
        self._requests = bytearray()
        self._trips = bytearray()
        self._numbers: dict[int, int] = {}
        self._decisions: list[Decision] = []
        self._count = 0

    def add(self, device: int, request: int, sample: int, finished: Finished) -> None:
        arrival_s, start_s, answer, trip, cost, observation, replaced = finished
        decision, prediction, margin, exit, cut, offloaded, local, degraded, done_s, refined = answer
        # Identities stay apart because the list below keeps every Decision alive.
        number = self._numbers.get(id(decision))
        if number is None:
            number = self._numbers[id(decision)] = len(self._decisions)
            self._decisions.append(decision)
        head_s, airtime_up_s, airtime_down_s, energy_j = cost
        self._requests += _pack_request(
            number, device, request, sample, arrival_s, start_s, done_s, cut, exit, margin, prediction, offloaded,
            local, degraded, refined, head_s, energy_j, observation[0], observation[1], replaced,
        )  # fmt: skip
        if trip is not None:
            self._trips += _pack_trip(
                self._count, trip.uplink_bytes, trip.channel_uses, 0 if local else trip.downlink_bytes,
                trip.votes, trip.asked, trip.quorum_macs, trip.uplink_s, trip.server_s, trip.downlink_s,
                airtime_up_s, airtime_down_s,
            )  # fmt: skip
        self._count += 1

    def columns(self) -> dict[str, np.ndarray]:
        """By field of a Record, ordered by (device, request)."""
        rows, trips = np.frombuffer(self._requests, _REQUEST), np.frombuffer(self._trips, _TRIP)
        order = np.lexsort((rows["request"], rows["device"]))
        # Rows move as plain bytes, which is several times faster than field by field.
        rows = rows.view(np.void(_REQUEST.itemsize).dtype)[order].view(_REQUEST)
        found = {name: np.ascontiguousarray(rows[name]) for name in _EVERY}
        numbers = rows[_NUMBER]
        for name in _DECIDED:
            decided: np.ndarray = np.array([getattr(d, name) for d in self._decisions], DTYPES[name])
            found[name] = decided[numbers] if len(decided) != 1 else np.full(len(rows), decided[0])
        place = np.empty(len(rows), np.int64)
        place[order] = np.arange(len(rows))
        sent = place[trips[_NUMBER]]
        for name in _SENT:
            found[name] = np.full(len(rows), math.nan if name in _UNKNOWN else 0, DTYPES[name])
            found[name][sent] = trips[name]
        return {name: found[name] for name in DTYPES}
