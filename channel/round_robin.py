"""Round robin: the packets of the devices that have something to send take turns on the medium."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .link import Link
from .medium import Completion, Transfer
from .outages import INFINITY

__all__ = ["RoundRobinMedium"]


class _Message:
    __slots__ = ("airtime_s", "bits", "key", "left", "link", "start_s", "symbols_s", "tag")

    def __init__(self, link: Link, key: int, tag: object, left: int, bits: float, symbols_s: float) -> None:
        self.link, self.key, self.tag = link, key, tag
        self.left = left  # packets still to be sent, lost ones again included
        self.bits = bits  # in each packet
        self.symbols_s = symbols_s  # sent in one go with the first packet
        self.start_s = -1.0
        self.airtime_s = 0.0

    def copy(self) -> _Message:
        twin = _Message(self.link, self.key, self.tag, self.left, self.bits, self.symbols_s)
        twin.start_s, twin.airtime_s = self.start_s, self.airtime_s
        return twin


class _Ring:
    """The queues of the active devices, in the order of their turns, and when the medium is free."""

    def __init__(self, free_s: float, queues: Iterable[deque[_Message]]) -> None:
        self.free_s = free_s
        self.queues = deque(queues)
        self.on_air = -1  # the device whose packet was sent last

    def step(self) -> tuple[float, Completion] | None:
        """Send the next packet. What ended by it, and when, if anything did."""
        queue = self.queues.popleft()
        message = queue[0]
        begin = self.free_s
        if message.start_s < 0.0:
            message.start_s = begin
        spent = message.symbols_s
        spent += message.link.air_time(message.bits, begin + spent)
        if message.symbols_s and message.link.cut_off(begin) < begin + message.symbols_s:
            spent = INFINITY
        message.symbols_s = 0.0
        if spent == INFINITY:
            self.free_s = message.link.cut_off(begin)
            done = INFINITY
        else:
            self.free_s = done = begin + spent
        message.airtime_s += self.free_s - begin
        message.left -= 1
        ended = message.left == 0 or done == INFINITY
        if ended:
            queue.popleft()
        self.on_air = message.link.device
        if queue:
            self.queues.append(queue)
        if not ended:
            return None
        transfer = Transfer(message.start_s, done, message.airtime_s)
        return self.free_s, Completion(message.tag, message.link.device, message.key, transfer)


class RoundRobinMedium:
    """One packet a turn for each device with messages; a device's own messages go one after another.

    The loss and the number of packets of a message are those at its submission, the rate that of each
    packet's own time. Work a call grows with the packets that are pending.
    """

    def __init__(self) -> None:
        self._ring = _Ring(0.0, ())
        self._ended: deque[tuple[float, Completion]] = deque()
        self._next: float | None = INFINITY

    def submit(
        self, now: float, link: Link, nbytes: int, key: int, tag: object = None, symbols: int = 0
    ) -> None:
        self._run(now)
        ring = self._ring
        # Where packets pend, the next one begins no earlier than now.
        if ring.free_s < now:
            ring.free_s = now
        count, bits = link.packets(nbytes, now, key)
        message = _Message(link, key, tag, count, bits, symbols / link.rate.bandwidth_hz)
        for queue in ring.queues:
            if queue[0].link.device == link.device:
                queue.append(message)
                break
        else:
            # Who comes while a packet is on the air comes before that packet's device has its next turn.
            on_air = ring.free_s > now and bool(ring.queues)
            before_last = on_air and ring.queues[-1][0].link.device == ring.on_air
            ring.queues.insert(len(ring.queues) - before_last, deque((message,)))
        self._next = None

    def _run(self, now: float) -> None:
        """Send all packets that begin before `now`."""
        while self._ring.queues and self._ring.free_s < now:
            self._step()

    def _step(self) -> None:
        ended = self._ring.step()
        if ended is not None:
            self._ended.append(ended)
            self._next = None

    def next_completion(self) -> float:
        if self._ended:
            return self._ended[0][0]
        if self._next is None:
            # Look ahead on a copy: a later submission may still change the order of the turns.
            ring = _Ring(self._ring.free_s, (deque(m.copy() for m in queue) for queue in self._ring.queues))
            ended = None
            while ring.queues and ended is None:
                ended = ring.step()
            self._next = INFINITY if ended is None else ended[0]
        return self._next

    def pop_completed(self, now: float) -> list[Completion]:
        self._run(now)
        completed = []
        while self.next_completion() <= now:
            if self._ended:
                completed.append(self._ended.popleft()[1])
            else:
                # A message whose turn comes in an outage ends as it begins.
                self._step()
        return completed

    def rate_bps(self, t: float) -> float:
        return INFINITY
