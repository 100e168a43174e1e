"""The seeded channel on a real clock: when a message arrives, and whether it arrives at all.

Calls back instead of making tasks: hundreds of messages a second are on the air, on a core that others need too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from ..clock import Clock
from .config import ChannelConfig
from .link import Link, SlottedLink
from .link_config import build_link
from .medium import Medium, Transfer
from .medium_config import build_medium, build_report
from .outages import INFINITY
from .report import Reading, SnrReport

__all__ = ["Arrived", "Passage", "Radio"]

_HALF_TICK_S = 0.0005
_MAX_LINKS = 16384


class Passage(NamedTuple):
    """How a message passed: its transfer on the medium, seconds from submission to arrival, time of arrival."""

    transfer: Transfer
    elapsed_s: float
    arrived_s: float


Arrived = Callable[[Passage | None], None]
"""Called exactly once: when the message arrives, or with None as soon as an outage has swallowed it."""

_Settled = Callable[[Transfer], None]


class _Air:
    """One direction. Media that settle late are pumped by a timer."""

    def __init__(self, medium: Medium, clock: Clock) -> None:
        self.medium = medium
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def submit(
        self, now_s: float, link: Link, nbytes: int, key: int, settled: _Settled, symbols: int
    ) -> None:
        transfer = self.medium.submit(now_s, link, nbytes, key, settled, symbols)
        if transfer is not None:
            settled(transfer)
        else:
            self._arm()

    def _arm(self) -> None:
        # What was submitted since may have moved the next completion.
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_s = self.medium.next_completion()
        if next_s < INFINITY:
            delay_s = max(0.0, next_s - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump)

    def _pump(self) -> None:
        for completion in self.medium.pop_completed(max(0.0, self._clock.now())):
            settled = completion.tag
            assert callable(settled)
            settled(completion.transfer)
        self._arm()


class Radio:
    """All links and both media since one epoch (by `time.time()`; None is now). Use it on one event loop.

    What is submitted before the epoch is on the air from the epoch on.
    """

    def __init__(self, config: ChannelConfig, seed: int, epoch: float | None = None) -> None:
        self.clock = Clock(epoch)
        self._config = config
        self._seed = seed
        self._up = _Air(build_medium(config.uplink), self.clock)
        self._down = _Air(build_medium(config.downlink), self.clock)
        self._links: dict[int, tuple[SlottedLink, SnrReport]] = {}

    def link(self, device: int) -> SlottedLink:
        return self._of(device)[0]

    def uplink(
        self, device: int, nbytes: int, request_id: int, arrived: Arrived, *, symbols: int = 0
    ) -> None:
        """Send `nbytes` bytes and `symbols` channel uses to the server."""
        self._carry(self._up, device, nbytes, 2 * request_id, arrived, symbols)

    def downlink(self, device: int, nbytes: int, request_id: int, arrived: Arrived) -> None:
        """Send `nbytes` bytes to the device."""
        self._carry(self._down, device, nbytes, 2 * request_id + 1, arrived, 0)

    def propagate(self, device: int, arrived: Callable[[bool], None]) -> None:
        """Half a round trip for a message that is not charged; False, at once, if the link is down."""
        link, now_s = self.link(device), max(0.0, self.clock.now())
        if link.state(now_s).up:
            self._at(now_s + 0.5 * link.round_trip_s, arrived, True)
        else:
            arrived(False)

    def report(self, device: int, request_id: int, now_s: float) -> Reading:
        """What the modem says of the link at `now_s`, with the reply to `request_id`."""
        return self._of(device)[1].read(now_s, request_id)

    def _of(self, device: int) -> tuple[SlottedLink, SnrReport]:
        found = self._links.get(device)
        if found is None:
            if len(self._links) >= _MAX_LINKS:
                # Links are functions of the seed: one that is forgotten is made again as it was.
                self._links.clear()
            link = build_link(self._config.link_of(device), self._seed, device)
            report = build_report(self._config.report, link, self._seed, self._up.medium)
            found = self._links[device] = link, report
        return found

    def _carry(self, air: _Air, device: int, nbytes: int, key: int, arrived: Arrived, symbols: int) -> None:
        link = self.link(device)
        began_s = max(0.0, self.clock.now())

        def settled(transfer: Transfer) -> None:
            if transfer.done_s == INFINITY:
                arrived(None)
                return
            due_s = transfer.done_s + 0.5 * link.round_trip_s
            self._at(due_s, arrived, Passage(transfer, due_s - began_s, due_s))

        air.submit(began_s, link, nbytes, key, settled, symbols)

    def _at(self, due_s: float, act: Callable[..., None], result: object) -> None:
        # The event loop's timers are up to a millisecond late: half of that less, and they are right on average.
        asyncio.get_running_loop().call_later(due_s - self.clock.now() - _HALF_TICK_S, act, result)
