"""The virtual-time engines: devices, media and server in SimPy's time, by the agent that boards run.

A device runs ahead of the clock for as long as nothing that it does can touch another: through whole
requests that are answered locally. Only sending, serving and replying are events, in the order of time.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..channel.link import Link
from ..channel.medium import Medium, Transfer
from ..channel.report import SnrReport
from ..codec.refinement import ASK_BYTES
from ..device.accounting import Trip
from ..device.effects import Answer, Effect, Offload, Refine, Reply, RunBlocks
from ..device.session import Session
from .air import Air
from .backends import Backend
from .call import Call
from .ledger import Ledger
from .timeline import Timeline
from .virtual_quorum import VirtualQuorum
from .virtual_server import VirtualServer

__all__ = ["VirtualDevice", "VirtualRun"]


@dataclass(slots=True)
class VirtualDevice:
    """One device: what it is made of, and where it stands. arrivals and samples have one entry a request."""

    index: int
    session: Session
    link: Link
    report: SnrReport
    overhead_s: float
    arrivals: list[float]
    samples: list[int]
    next: int = 0
    free_s: float = 0.0
    generator: Generator[Effect, Any, Answer] | None = None


class VirtualRun:
    """One policy's run over all devices. `run()` gives the columns of its Records, each request exactly once.

    server: makes the server, given the clock, what to call with each reply, and what to call with each
    request that it loses. probe_s: how often a device looks whether a lost link is back.
    """

    def __init__(
        self,
        devices: Sequence[VirtualDevice],
        backend: Backend,
        uplink: Medium,
        downlink: Medium,
        server: Callable[
            [Timeline, Callable[[float, Call], None], Callable[[float, Call], None]],
            VirtualServer | VirtualQuorum,
        ],
        *,
        probe_s: float,
        progress: Callable[[], None] | None = None,
    ) -> None:
        self.timeline = Timeline()
        self._after = self.timeline.after
        self._devices = devices
        self._backend = backend
        self._reading = backend.reading
        self._uplink = Air(self.timeline, uplink, self._uploaded)
        self._downlink = Air(self.timeline, downlink, self._downloaded)
        self._server = server(self.timeline, self._replied, self._lost)
        self._life = self._server.life
        self._probe_s = probe_s
        self._progress = progress
        self._ledger = Ledger()
        self._working = 0

    def run(self) -> dict[str, np.ndarray]:
        for device in self._devices:
            if device.arrivals:
                self._working += 1
                self._after(device.arrivals[0], self._serve, device)
        if self._working:
            self.timeline.run()
        return self._ledger.columns()

    def _finished(self) -> None:
        """A device has answered its last request. After the last device's nothing that may still come counts."""
        self._working -= 1
        if not self._working:
            # Probes of a link that stays down would go on for as long as it does.
            self.timeline.clear()

    def _serve(self, now_s: float, device: VirtualDevice) -> None:
        """Answer request after request, until one must wait for the others or none is left."""
        arrivals, session = device.arrivals, device.session
        count = len(arrivals)
        while (place := device.next) < count:
            arrival_s = arrivals[place]
            start_s = device.free_s
            if arrival_s > start_s:
                start_s = arrival_s
            if not session.link_up and start_s > now_s:
                # Whether the link is back by then is not known yet.
                self._after(start_s - now_s, self._serve, device)
                return
            device.next = place = place + 1
            behind = 0
            if place < count and arrivals[place] <= start_s:
                behind = bisect_right(arrivals, start_s, place) - place
            device.generator = session.begin(start_s, arrival_s, behind)
            if not self._advance(device, now_s, start_s, None):
                return
        self._finished()

    def _advance(self, device: VirtualDevice, now_s: float, at_s: float, result: Any) -> bool:
        """Execute effects from `at_s` on; True when the request is answered, False when it is sent.

        at_s: where the device stands, which may be ahead of the clock.
        """
        generator = device.generator
        assert generator is not None
        session = device.session
        agent = session.agent
        send = generator.send
        sample = device.samples[device.next - 1]
        try:
            effect = send(result)
            while type(effect) is RunBlocks:
                start, stop, keep = effect
                block_s = agent.times(keep)
                at_s += block_s[stop] - block_s[start]
                exit = agent.exit_at.get(stop)
                found = None if exit is None else self._reading(sample, exit, keep)
                effect = send((at_s, found))
        except StopIteration as stopped:
            finished = session.finish(stopped.value)
            device.free_s = finished.answer.done_s
            self._ledger.add(device.index, device.next - 1, sample, finished)
            if self._progress is not None:
                self._progress()
            return True
        assert type(effect) is Offload or type(effect) is Refine
        decision = effect.decision
        if type(effect) is Refine:
            upload = self._backend.refinement(sample, effect.cut, decision)
        elif decision.symbols and effect.cut:
            upload = self._backend.upload_symbols(sample, effect.cut, decision, session.snr_db)
        else:
            upload = self._backend.upload(sample, effect.cut, decision)
        trip = Trip(at_s, upload.nbytes, self._backend.reply_bytes, channel_uses=upload.symbols)
        session.sent(trip, effect.answer_by_s)
        self._after(at_s + device.overhead_s - now_s, self._send, Call(device, effect, upload, trip))
        return False

    def _send(self, now_s: float, call: Call) -> None:
        if now_s >= call.answer_by_s or not self._life.reachable:
            self._close(now_s, call, link_lost=not self._life.reachable)
            return
        call.sent_s = now_s
        self._after(call.answer_by_s - now_s, self._lost, call)
        self._uplink.send(now_s, call, call.upload.nbytes, call.key, call.upload.symbols)

    def _uploaded(self, now_s: float, call: Call, transfer: Transfer) -> None:
        if transfer.done_s == math.inf:
            return
        if call.upload.symbols:
            call.upload = self._backend.received(
                call.upload, call.device.link, transfer.start_s, call.key // 2
            )
        call.trip.airtime_up_s = transfer.airtime_s
        received_s = transfer.done_s + 0.5 * call.device.link.round_trip_s
        call.trip.uplink_s = received_s - call.sent_s
        self._after(received_s - now_s, self._receive, call)

    def _receive(self, now_s: float, call: Call) -> None:
        call.received_s = now_s
        self._server.receive(now_s, call)

    def _replied(self, now_s: float, call: Call) -> None:
        """The server has an answer (or refuses: call.reply is None)."""
        call.trip.server_s = now_s - call.received_s
        call.trip.load = float(self._server.load)
        call.replied_s = now_s
        nbytes = self._backend.reply_bytes
        if call.reply is not None and call.reply.session:
            call.trip.downlink_bytes = nbytes = nbytes + ASK_BYTES
        self._downlink.send(now_s, call, nbytes, call.key + 1)

    def _downloaded(self, now_s: float, call: Call, transfer: Transfer) -> None:
        if transfer.done_s == math.inf:
            return
        call.trip.airtime_down_s = transfer.airtime_s
        delivered_s = transfer.done_s + 0.5 * call.device.link.round_trip_s
        call.trip.downlink_s = delivered_s - call.replied_s
        self._after(delivered_s - now_s, self._delivered, call)

    def _delivered(self, now_s: float, call: Call) -> None:
        if not call.open:
            return
        if call.reply is not None:
            device, trip = call.device, call.trip
            trip.snr_db, trip.rate_bps = device.report.read(now_s, call.key // 2)
            device.session.replied(now_s)
        self._close(now_s, call, call.reply)

    def _lost(self, now_s: float, call: Call) -> None:
        """No reply in time, or the server died with the request in its hands and the connection breaks at once."""
        if call.open:
            self._close(now_s, call, link_lost=True)

    def _close(self, now_s: float, call: Call, reply: Reply | None = None, link_lost: bool = False) -> None:
        self._ended(now_s, call, reply, link_lost)
        if self._advance(call.device, now_s, now_s, (now_s, reply)):
            self._serve(now_s, call.device)

    def _ended(self, now_s: float, call: Call, reply: Reply | None, link_lost: bool) -> None:
        """Nobody waits for this call any more: what that means for its records and for the link."""
        device = call.device
        call.open = False
        if reply is None:
            # On a board they come with the reply.
            trip = call.trip
            trip.server_s, trip.votes, trip.asked, trip.quorum_macs = math.nan, 0, 0, 0
        if link_lost:
            device.session.lost(now_s)
            self._probe(now_s, device)

    def _probe(self, now_s: float, device: VirtualDevice) -> None:
        """A health check now; the link counts as back once one of them has been answered."""
        state = device.link.state(now_s)
        if state.up and self._life.reachable and not self._life.frozen:
            self._after(state.round_trip_s, self._found_up, device)
        else:
            self._after(self._probe_s, self._probe, device)

    def _found_up(self, now_s: float, device: VirtualDevice) -> None:
        device.session.link_up = True
