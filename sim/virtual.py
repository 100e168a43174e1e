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

import simpy

from ..channel.link import REFINEMENT_IDS, Link
from ..channel.medium import Medium, Transfer
from ..channel.report import SnrReport
from ..codec.refinement import ASK_BYTES
from ..device.accounting import Trip
from ..device.effects import Answer, Effect, Offload, Refine, Reply, RunBlocks
from ..device.session import Session
from .backends import Backend, Upload
from .moment import Moment
from .records import Record, record
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


class Call:
    """One offloaded request on its way through media and server."""

    __slots__ = (
        "answer_by_s", "cut", "decision", "device", "key", "open", "received_s", "refines", "replied_s", "reply",
        "sent_s", "trip", "upload",
    )  # fmt: skip

    def __init__(self, device: VirtualDevice, effect: Offload | Refine, upload: Upload, trip: Trip) -> None:
        self.device = device
        self.cut = effect.cut
        self.decision = effect.decision
        self.answer_by_s = effect.answer_by_s
        self.upload = upload
        self.trip = trip
        # As on the wire: request ids start from 1.
        self.key = 2 * device.next
        self.refines = type(effect) is Refine
        if self.refines:
            self.key += 2 * REFINEMENT_IDS
        self.open = True
        self.sent_s = self.received_s = self.replied_s = 0.0
        self.reply: Reply | None = None


class _Air:
    """One medium, pumped by the clock: `settled(call, transfer)` tells how each transfer ends."""

    def __init__(
        self, env: simpy.Environment, medium: Medium, settled: Callable[[Call, Transfer], None]
    ) -> None:
        self._env = env
        self._medium = medium
        self._settled = settled
        self._wake = 0

    def send(self, call: Call, nbytes: int, key: int, symbols: int = 0) -> None:
        transfer = self._medium.submit(self._env.now, call.device.link, nbytes, key, call, symbols)
        if transfer is not None:
            self._settled(call, transfer)
        else:
            self._sleep()

    def _sleep(self) -> None:
        # What was submitted since may have moved the next completion: only the newest wake counts.
        self._wake += 1
        wake, next_s = self._wake, self._medium.next_completion()
        if next_s < math.inf:
            event = simpy.Timeout(self._env, max(0.0, next_s - self._env.now))
            event.callbacks.append(lambda _: self._pump() if wake == self._wake else None)

    def _pump(self) -> None:
        for completion in self._medium.pop_completed(self._env.now):
            call = completion.tag
            assert isinstance(call, Call)
            self._settled(call, completion.transfer)
        self._sleep()


class VirtualRun:
    """One policy's run over all devices. `run()` gives one Record for every request, exactly once.

    server: makes the server, given the clock, what to call with each reply, and what to call with each
    request that it loses. probe_s: how often a device looks whether a lost link is back.
    """

    def __init__(
        self,
        devices: Sequence[VirtualDevice],
        backend: Backend,
        uplink: Medium,
        downlink: Medium,
        server: Callable[[simpy.Environment, Callable[[Call], None], Callable[[Call], None]], VirtualServer],
        *,
        probe_s: float,
        progress: Callable[[], None] | None = None,
    ) -> None:
        self.env = simpy.Environment()
        self._devices = devices
        self._backend = backend
        self._uplink = _Air(self.env, uplink, self._uploaded)
        self._downlink = _Air(self.env, downlink, self._downloaded)
        self._server = server(self.env, self._replied, self._lost)
        self._probe_s = probe_s
        self._progress = progress
        self._records: list[Record] = []

    def run(self) -> list[Record]:
        for device in self._devices:
            if device.arrivals:
                self._at(device.arrivals[0], self._serve, device)
        self.env.run()
        return self._records

    def _at(self, time_s: float, act: Callable[[Any], None], subject: Any) -> None:
        Moment(self.env, time_s - self.env.now, act, subject)

    def _serve(self, device: VirtualDevice) -> None:
        """Answer request after request, until one must wait for the others or none is left."""
        arrivals = device.arrivals
        while device.next < len(arrivals):
            arrival_s = arrivals[device.next]
            start_s = arrival_s if arrival_s > device.free_s else device.free_s
            if not device.session.link_up and start_s > self.env.now:
                # Whether the link is back by then is not known yet.
                self._at(start_s, self._serve, device)
                return
            device.next += 1
            behind = bisect_right(arrivals, start_s, device.next) - device.next
            device.generator = device.session.begin(start_s, arrival_s, behind)
            if not self._advance(device, start_s, None):
                return

    def _advance(self, device: VirtualDevice, now_s: float, result: Any) -> bool:
        """Execute effects from `now_s` on; True when the request is answered, False when it is sent."""
        generator = device.generator
        assert generator is not None
        agent = device.session.agent
        block_s, exit_at = agent.block_s, agent.exit_at
        sample = device.samples[device.next - 1]
        try:
            effect = generator.send(result)
            while type(effect) is RunBlocks:
                start, stop = effect
                now_s += block_s[stop] - block_s[start]
                exit = exit_at.get(stop)
                found = None if exit is None else self._backend.reading(sample, exit)
                effect = generator.send((now_s, found))
        except StopIteration as stopped:
            finished = device.session.finish(stopped.value)
            device.free_s = finished.answer.done_s
            self._records.append(record(device.index, device.next - 1, sample, finished))
            if self._progress is not None:
                self._progress()
            return True
        assert type(effect) is Offload or type(effect) is Refine
        decision = effect.decision
        if type(effect) is Refine:
            upload = self._backend.refinement(sample, effect.cut, decision)
        elif decision.symbols and effect.cut:
            upload = self._backend.upload_symbols(sample, effect.cut, decision, device.session.snr_db)
        else:
            upload = self._backend.upload(sample, effect.cut, decision)
        trip = Trip(now_s, upload.nbytes, self._backend.reply_bytes, channel_uses=upload.symbols)
        device.session.sent(trip, effect.answer_by_s)
        self._at(now_s + device.overhead_s, self._send, Call(device, effect, upload, trip))
        return False

    def _send(self, call: Call) -> None:
        now_s = self.env.now
        if now_s >= call.answer_by_s or not self._server.reachable:
            self._close(call, link_lost=not self._server.reachable)
            return
        call.sent_s = now_s
        self._at(call.answer_by_s, self._timed_out, call)
        self._uplink.send(call, call.upload.nbytes, call.key, call.upload.symbols)

    def _uploaded(self, call: Call, transfer: Transfer) -> None:
        if transfer.done_s == math.inf:
            return
        if call.upload.symbols:
            call.upload = self._backend.received(
                call.upload, call.device.link, transfer.start_s, call.key // 2
            )
        call.trip.airtime_up_s = transfer.airtime_s
        received_s = transfer.done_s + 0.5 * call.device.link.round_trip_s
        call.trip.uplink_s = received_s - call.sent_s
        self._at(received_s, self._receive, call)

    def _receive(self, call: Call) -> None:
        call.received_s = self.env.now
        self._server.receive(call)

    def _replied(self, call: Call) -> None:
        """The server has an answer (or refuses: call.reply is None)."""
        now_s = self.env.now
        call.trip.server_s = now_s - call.received_s
        call.trip.load = float(self._server.load)
        call.replied_s = now_s
        nbytes = self._backend.reply_bytes
        if call.reply is not None and call.reply.session:
            call.trip.downlink_bytes = nbytes = nbytes + ASK_BYTES
        self._downlink.send(call, nbytes, call.key + 1)

    def _downloaded(self, call: Call, transfer: Transfer) -> None:
        if transfer.done_s == math.inf:
            return
        call.trip.airtime_down_s = transfer.airtime_s
        delivered_s = transfer.done_s + 0.5 * call.device.link.round_trip_s
        call.trip.downlink_s = delivered_s - call.replied_s
        self._at(delivered_s, self._delivered, call)

    def _delivered(self, call: Call) -> None:
        if not call.open:
            return
        if call.reply is None:
            self._close(call, link_lost=False)
            return
        device, trip = call.device, call.trip
        trip.snr_db, trip.rate_bps = device.report.read(self.env.now, call.key // 2)
        device.session.replied(self.env.now)
        self._close(call, call.reply)

    def _timed_out(self, call: Call) -> None:
        if call.open:
            self._close(call, link_lost=True)

    def _lost(self, call: Call) -> None:
        """The server died with this request in its hands: the connection breaks at once."""
        if call.open:
            self._close(call, link_lost=True)

    def _close(self, call: Call, reply: Reply | None = None, link_lost: bool = False) -> None:
        device = call.device
        call.open = False
        if link_lost and device.session.link_up:
            device.session.lost(self.env.now)
            self._probe(device)
        if self._advance(device, self.env.now, (self.env.now, reply)):
            self._serve(device)

    def _probe(self, device: VirtualDevice) -> None:
        """A health check now; the link counts as back once one of them has been answered."""
        state = device.link.state(self.env.now)
        if state.up and self._server.reachable and not self._server.frozen:
            self._at(self.env.now + state.round_trip_s, self._found_up, device)
        else:
            self._at(self.env.now + self._probe_s, self._probe, device)

    def _found_up(self, device: VirtualDevice) -> None:
        device.session.link_up = True
