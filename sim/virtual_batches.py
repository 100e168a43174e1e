"""Virtual time for requests that come in bursts: those of one arrival may be merged into one message (ADC).

burst ─► one Decision ─► blocks, sample by sample ─► one Call, a Part for each group ─► the server's batches
                                    each sample its group's answer ◄─ one reply ◄───────┘ all Parts answered
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Sequence
from typing import Any, cast

from ..codec.adc import unmerge
from ..codec.requests import GROUP_BYTES
from ..device.accounting import Trip
from ..device.effects import Answer, BatchEffect, OffloadBatch, Reply, RunBatch
from .backends import Upload
from .call import Call
from .virtual import VirtualDevice, VirtualRun
from .virtual_server import VirtualServer

__all__ = ["BatchRun"]


class _Part(Call):
    """One group of a merged request, as the server sees it: a request among others."""

    __slots__ = ("whole",)

    def __init__(self, whole: _MergedCall, upload: Upload) -> None:
        for name in ("device", "cut", "decision", "answer_by_s", "key", "trip"):
            setattr(self, name, getattr(whole, name))
        self.whole = whole
        self.upload = upload
        self.refines = False
        self.open = True
        self.reply = None


class _MergedCall(Call):
    """A merged request: its parts, the group of each member, and how many parts the server still works on."""

    __slots__ = ("groups", "left", "parts")

    def __init__(
        self,
        device: VirtualDevice,
        effect: OffloadBatch,
        uploads: Sequence[Upload],
        groups: list[int],
        trip: Trip,
    ) -> None:
        super().__init__(device, effect, uploads[0], trip)
        self.groups = groups
        self.parts = [_Part(self, upload) for upload in uploads]
        self.left = len(self.parts)


class BatchRun(VirtualRun):
    """As VirtualRun, with sessions asked for the Decision on all requests of an arrival at once."""

    def _serve(self, now_s: float, device: VirtualDevice) -> None:
        arrivals, session = device.arrivals, device.session
        while device.next < len(arrivals):
            arrival_s = arrivals[device.next]
            start_s = max(arrival_s, device.free_s)
            if not session.link_up and start_s > now_s:
                self._after(start_s - now_s, self._serve, device)
                return
            together = bisect_right(arrivals, arrival_s, device.next) - device.next
            device.next += 1
            behind = bisect_right(arrivals, start_s, device.next) - device.next
            # One of two kinds; session.batch says which.
            device.generator = cast(Any, session.begin_batch(start_s, arrival_s, behind, together))
            advance = self._advance if session.batch == 1 else self._advance_batch
            if not advance(device, now_s, start_s, None):
                return
        self._finished()

    def _advance_batch(self, device: VirtualDevice, now_s: float, at_s: float, result: Any) -> bool:
        """As `_advance`, for a batch whose first request is the newest; the others are passed at its end."""
        generator = cast("Generator[BatchEffect, Any, list[Answer]]", device.generator)
        session, first = device.session, device.next - 1
        agent, samples = session.agent, device.samples[first : first + session.batch]
        try:
            effect = generator.send(result)
            while type(effect) is RunBatch:
                block_s = agent.times(effect.keep)
                at_s += len(effect.members) * (block_s[effect.stop] - block_s[effect.start])
                exit = agent.exit_at.get(effect.stop)
                found = [
                    None if exit is None else self._backend.reading(samples[member], exit, effect.keep)
                    for member in effect.members
                ]
                effect = generator.send((at_s, found))
        except StopIteration as stopped:
            for place, finished in enumerate(session.finish_batch(stopped.value)):
                device.free_s = max(device.free_s, finished.answer.done_s)
                self._ledger.add(device.index, first + place, samples[place], finished)
                if self._progress is not None:
                    self._progress()
            device.next = first + session.batch
            return True
        assert type(effect) is OffloadBatch
        members = [samples[member] for member in effect.members]
        uploads, groups = self._backend.upload_merged(members, effect.cut, effect.decision, device.next)
        trip = Trip(at_s, uploads[0].nbytes, self._reply_bytes(len(uploads)))
        session.sent(trip, effect.answer_by_s)
        call = _MergedCall(device, effect, uploads, groups, trip)
        self._after(at_s + device.overhead_s - now_s, self._send, call)
        return False

    def _reply_bytes(self, groups: int) -> int:
        return self._backend.reply_bytes + GROUP_BYTES * (groups - 1)

    def _receive(self, now_s: float, call: Call) -> None:
        if isinstance(call, _MergedCall):
            call.received_s = now_s
            assert isinstance(self._server, VirtualServer), "a quorum gets whole inputs, which nothing merges"
            self._server.receive_parts(now_s, call.parts)
        else:
            super()._receive(now_s, call)

    def _replied(self, now_s: float, call: Call) -> None:
        if not isinstance(call, _Part):
            super()._replied(now_s, call)
            return
        whole = call.whole
        if whole.left == 0:
            return
        whole.left = whole.left - 1 if call.reply is not None else 0
        if whole.left:
            return
        # Of a refused part there is no reply, and none of the whole.
        whole.reply = call.reply
        whole.trip.server_s = now_s - whole.received_s
        whole.trip.load = float(self._server.load)
        whole.replied_s = now_s
        self._downlink.send(now_s, whole, whole.trip.downlink_bytes, whole.key + 1)

    def _lost(self, now_s: float, call: Call) -> None:
        super()._lost(now_s, call.whole if isinstance(call, _Part) else call)

    def _close(self, now_s: float, call: Call, reply: Reply | None = None, link_lost: bool = False) -> None:
        if not isinstance(call, _MergedCall):
            super()._close(now_s, call, reply, link_lost)
            return
        self._ended(now_s, call, reply, link_lost)
        replies = None if reply is None else unmerge(call.groups, [part.reply for part in call.parts])
        if self._advance_batch(call.device, now_s, now_s, (now_s, replies)):
            self._serve(now_s, call.device)
