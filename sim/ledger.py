"""Finished requests of a run in virtual time, as they come in."""

from __future__ import annotations

import dataclasses
import math
from array import array

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


class Ledger:
    """Kept as plain doubles: integers up to 2^53 and booleans stay what they are.

    What only offloaded requests have is kept for those only, and a Decision once for all requests that it served:
    the engines' hot path is here, and a run may have millions of requests.
    """

    def __init__(self) -> None:
        self._requests = array("d")
        self._trips = array("d")
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
        self._requests.extend(
            (
                device, request, sample, arrival_s, start_s, done_s, number, cut, exit, margin, prediction, offloaded,
                local, degraded, refined, head_s, energy_j, observation[0], observation[1], replaced,
            )
        )  # fmt: skip
        if trip is not None:
            self._trips.extend(
                (
                    self._count, trip.uplink_bytes, trip.channel_uses, 0 if local else trip.downlink_bytes,
                    trip.votes, trip.asked, trip.quorum_macs, trip.uplink_s, trip.server_s, trip.downlink_s,
                    airtime_up_s, airtime_down_s,
                )
            )  # fmt: skip
        self._count += 1

    def columns(self) -> dict[str, np.ndarray]:
        """By field of a Record, ordered by (device, request)."""
        rows = np.frombuffer(self._requests).reshape(-1, len(_EVERY) + 1)
        trips = np.frombuffer(self._trips).reshape(-1, len(_SENT) + 1)
        found = dict(zip((*_EVERY[:6], "number", *_EVERY[6:]), rows.T, strict=True))
        numbers = found.pop("number").astype(np.int64)
        for name in _DECIDED:
            found[name] = np.array([getattr(d, name) for d in self._decisions], float)[numbers]
        sent = trips[:, 0].astype(np.int64)
        for place, name in enumerate(_SENT, 1):
            found[name] = np.full(len(rows), math.nan if name in _UNKNOWN else 0.0)
            found[name][sent] = trips[:, place]
        order = np.lexsort((rows[:, 1], rows[:, 0]))
        return {name: found[name][order].astype(dtype) for name, dtype in DTYPES.items()}
