"""The seeded channel on a real clock: what a message waits for, and whether it arrives at all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..clock import Clock
from .build import build_link
from .config import ChannelConfig
from .medium import Medium, Transfer
from .medium_config import build_medium, build_report
from .outages import INFINITY
from .report import Reading, SnrReport
from .slotted_link import SlottedLink

__all__ = ["Passage", "Radio"]


@dataclass(slots=True)
class Passage:
    """How a message passed: its transfer on the medium, and seconds from submission to delivery."""

    transfer: Transfer
    elapsed_s: float


class _Air:
    """One direction. Media that settle late are pumped by a timer."""

    def __init__(self, medium: Medium, clock: Clock) -> None:
        self.medium = medium
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    async def transfer(self, link: SlottedLink, nbytes: int, key: int, symbols: int) -> Transfer:
        settled: asyncio.Future[Transfer] = asyncio.get_running_loop().create_future()
        transfer = self.medium.submit(self._clock.now(), link, nbytes, key, settled, symbols)
        if transfer is not None:
            return transfer
        self._arm()
        return await settled

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        next_s = self.medium.next_completion()
        if next_s < INFINITY:
            delay_s = max(0.0, next_s - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump)

    def _pump(self) -> None:
        for completion in self.medium.pop_completed(self._clock.now()):
            settled = completion.tag
            if isinstance(settled, asyncio.Future) and not settled.done():
                settled.set_result(completion.transfer)
        self._arm()


class Radio:
    """All links and both media since one epoch (by `time.time()`; None is now)."""

    def __init__(self, config: ChannelConfig, seed: int, epoch: float | None = None) -> None:
        self.clock = Clock(epoch)
        self._config = config
        self._seed = seed
        self._up = _Air(build_medium(config.uplink), self.clock)
        self._down = _Air(build_medium(config.downlink), self.clock)
        self._links: dict[int, SlottedLink] = {}
        self._reports: dict[int, SnrReport] = {}

    def link(self, device: int) -> SlottedLink:
        link = self._links.get(device)
        if link is None:
            link = self._links[device] = build_link(self._config.link_of(device), self._seed, device)
        return link

    async def uplink(self, device: int, nbytes: int, request_id: int, symbols: int = 0) -> Passage | None:
        """Return when the message has arrived; None, at once, if an outage swallows it."""
        return await self._carry(self._up, device, nbytes, 2 * request_id, symbols)

    async def downlink(self, device: int, nbytes: int, request_id: int) -> Passage | None:
        """As `uplink`, the other way."""
        return await self._carry(self._down, device, nbytes, 2 * request_id + 1, 0)

    async def propagate(self, device: int) -> bool:
        """Half a round trip for messages that are not charged; False if the link is down."""
        link = self.link(device)
        now_s = max(0.0, self.clock.now())
        await asyncio.sleep(0.5 * link.round_trip_s)
        return link.state(now_s).up

    def report(self, device: int, request_id: int) -> Reading:
        """What the modem says of the link now."""
        report = self._reports.get(device)
        if report is None:
            report = self._reports[device] = build_report(
                self._config.report, self.link(device), self._seed, self._up.medium
            )
        return report.read(max(0.0, self.clock.now()), request_id)

    async def _carry(self, air: _Air, device: int, nbytes: int, key: int, symbols: int) -> Passage | None:
        # Before the epoch nothing is on the air yet.
        if (early_s := -self.clock.now()) > 0.0:
            await asyncio.sleep(early_s)
        link = self.link(device)
        began_s = self.clock.now()
        transfer = await air.transfer(link, nbytes, key, symbols)
        if transfer.done_s == INFINITY:
            return None
        due_s = transfer.done_s + 0.5 * link.round_trip_s
        await asyncio.sleep(max(0.0, due_s - self.clock.now()))
        return Passage(transfer, due_s - began_s)
