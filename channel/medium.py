"""Media: who is on the air when. State machines without a clock, pumped by virtual time or by the emulator.

    transfer = medium.submit(now, link, nbytes, key, tag)
      a Transfer   its end is settled: first in first out, dedicated, Mahimahi
      None         its end depends on who comes later: round robin. Then, until nothing is pending,
                   wait until `medium.next_completion()` and take `medium.pop_completed(that time)`

A `Transfer` with done_s = inf was swallowed by an outage; the medium is free again when the outage begins.
Calls must come in the order of `now`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .link import Link
from .outages import INFINITY

__all__ = ["Completion", "DedicatedMedium", "FifoMedium", "Medium", "Transfer"]


class Transfer(NamedTuple):
    """start_s, done_s: first and last byte on the air; airtime_s: time on the air, even if swallowed."""

    start_s: float
    done_s: float
    airtime_s: float


# With a tuple of all fields: several times cheaper than a NamedTuple's constructor.
_new = tuple.__new__


class Completion(NamedTuple):
    """The end of a transfer whose `submit` gave None. `tag` is the caller's own, as given to `submit`."""

    tag: object
    device: int
    key: int
    transfer: Transfer


class Medium(Protocol):
    """What engines and the emulator need of a medium; one medium a direction."""

    def submit(
        self, now: float, link: Link, nbytes: int, key: int, tag: object = None, symbols: int = 0
    ) -> Transfer | None:
        """Put a message of `nbytes` bytes and `symbols` complex symbols in the line at time `now`."""
        ...

    def next_completion(self) -> float:
        """When `pop_completed` has something next, if nothing else is submitted; inf where nothing pends."""
        ...

    def pop_completed(self, now: float) -> list[Completion]:
        """All that ended, or was swallowed, up to `now`."""
        ...

    def rate_bps(self, t: float) -> float:
        """What the medium itself can carry around `t`; inf where only the links limit."""
        ...


class _Settled:
    """The pump's side of media whose transfers are settled at once."""

    def next_completion(self) -> float:
        return INFINITY

    def pop_completed(self, now: float) -> list[Completion]:
        return []

    def rate_bps(self, t: float) -> float:
        return INFINITY


class FifoMedium(_Settled):
    """One transmission at a time, first come first served, each at the rate of its own link."""

    def __init__(self) -> None:
        self._free_s = 0.0

    def submit(
        self, now: float, link: Link, nbytes: int, key: int, tag: object = None, symbols: int = 0
    ) -> Transfer:
        start = self._free_s
        if now > start:
            start = now
        airtime = link.transfer_time(nbytes, start, key, symbols)
        if airtime == INFINITY:
            self._free_s = free = link.cut_off(start)
            return _new(Transfer, (start, INFINITY, free - start))
        self._free_s = done = start + airtime
        return _new(Transfer, (start, done, airtime))


class DedicatedMedium(_Settled):
    """To each device a medium of its own: nobody waits for another, only for the own messages before."""

    def __init__(self) -> None:
        self._own: dict[int, FifoMedium] = {}

    def submit(
        self, now: float, link: Link, nbytes: int, key: int, tag: object = None, symbols: int = 0
    ) -> Transfer:
        own = self._own.get(link.device)
        if own is None:
            own = self._own[link.device] = FifoMedium()
        return own.submit(now, link, nbytes, key, tag, symbols)
