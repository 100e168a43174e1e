"""A link whose state changes from slot to slot.

    nbytes ─► packets of 1 400 B, 40 B of header each ─► + lost packets again ─► integrate the rate from t
                                                                              └► overlaps an outage: swallowed

Slots are drawn in chunks, each with a cumulative list of the bits that it can carry, so that a transfer time is a
bisection, at any t, in any order.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from ..seeding import generator
from .draws import UniformDraws
from .link import GIVE_UP_S, LinkState
from .outages import INFINITY, Outages
from .path import CHUNK, CHUNK_BITS, Samples
from .rate import HEADER_BYTES, PACKET_BYTES, Rate
from .retransmission import lost_packets
from .slots import Chunk, Slots

__all__ = ["SlottedLink"]

_KEPT_CHUNKS = 4
_MASK = CHUNK - 1


class SlottedLink:
    """A link whose SNR (and perhaps loss) is constant within each slot of `slot_s`.

    slots     SNR, loss and bits of each slot
    rate      turns SNR into bit/s
    loss      packet loss where the slots have none of their own
    outages   None for a link that is never down
    """

    def __init__(
        self,
        slots: Slots,
        rate: Rate,
        *,
        slot_s: float,
        round_trip_s: float,
        loss: float = 0.0,
        outages: Outages | None = None,
        seed: int = 0,
        device: int = 0,
    ) -> None:
        self.device = device
        self.round_trip_s = round_trip_s
        self.rate = rate
        self._slots = slots
        self._slot_s = slot_s
        self._slots_per_s = 1.0 / slot_s
        self._loss = loss
        self._outages = outages
        self._seed = seed
        self._draws = UniformDraws(seed, "loss", device)
        self._chunks: dict[int, Chunk] = {}
        self._index = -1  # of the chunk in hand; none is drawn before it is asked for
        self._chunk: Chunk
        self._carried: array[float]
        self._lossy = bool(loss) or slots.has_loss

    def _load(self, index: int, ahead: bool = False) -> Chunk:
        chunk = self._chunks.get(index)
        if chunk is None:
            if len(self._chunks) >= _KEPT_CHUNKS:
                del self._chunks[next(iter(self._chunks))]
            chunk = self._chunks[index] = self._slots.chunk(index, ahead=ahead)
        self._index, self._chunk, self._carried = index, chunk, chunk.carried
        return chunk

    @property
    def slot_s(self) -> float:
        return self._slot_s

    @property
    def loss(self) -> float:
        """Packet loss where `slots` give none of their own."""
        return self._loss

    @property
    def outages(self) -> Outages | None:
        return self._outages

    def slots(self, chunk: int) -> tuple[Samples, NDArray[np.float64]]:
        """SNR and loss of the slots of a chunk, and the bits that each can carry, (CHUNK,)."""
        return self._slots.bits(chunk)

    def snr_db(self, t: float) -> float:
        slot = int(t * self._slots_per_s)
        if slot >> CHUNK_BITS != self._index:
            self._load(slot >> CHUNK_BITS)
        return self._chunk.snr_db[slot & _MASK]

    def up(self, t: float) -> bool:
        return self._outages is None or self._outages.window(t)[0] > t

    def state(self, t: float) -> LinkState:
        slot = int(t * self._slots_per_s)
        if slot >> CHUNK_BITS != self._index:
            self._load(slot >> CHUNK_BITS)
        chunk, place = self._chunk, slot & _MASK
        rate_bps = (chunk.carried[place + 1] - chunk.carried[place]) * self._slots_per_s
        loss = self._loss if chunk.loss is None else chunk.loss[place]
        up = self.up(t)
        return LinkState(chunk.snr_db[place], rate_bps if up else 0.0, self.round_trip_s, loss, up)

    def transfer_time(self, nbytes: int, t: float, key: int, symbols: int = 0) -> float:
        if not (symbols or self._lossy):
            count = -(-nbytes // PACKET_BYTES) or 1
            return self.air_time(count * (8.0 * (nbytes + HEADER_BYTES * count) / count), t)
        count, bits = self.packets(nbytes, t, key)
        if symbols:
            spent_s = symbols / self.rate.bandwidth_hz
            if self.cut_off(t) < t + spent_s:
                return INFINITY
            return spent_s + self.air_time(count * bits, t + spent_s)
        return self.air_time(count * bits, t)

    def packets(self, nbytes: int, t: float, key: int) -> tuple[int, float]:
        count = -(-nbytes // PACKET_BYTES) or 1
        bits = 8.0 * (nbytes + HEADER_BYTES * count) / count
        if self._slots.has_loss:
            return count + self._lost_while_varying(count, bits, t, key), bits
        if self._loss:
            return count + lost_packets(count, self._loss, self._draws[key]), bits
        return count, bits

    def _lost_while_varying(self, count: int, bits: float, t: float, key: int) -> int:
        # The loss is the mean over the time that the transfer takes, which depends on the loss: go round
        # until it stands. The same draw each time makes this a function of (t, key) alone.
        uniform = self._draws[key]
        lost = 0
        for _ in range(4):
            duration = self._integrate((count + lost) * bits, t)
            before, lost = lost, lost_packets(count, self._mean_loss(t, duration), uniform)
            if lost == before:
                break
        return lost

    def _mean_loss(self, t: float, duration: float) -> float:
        """Expected share of the bits carried in [t, t + duration] that is lost."""
        end = t + min(duration, GIVE_UP_S)
        carried = lost = 0.0
        for sign, moment in ((-1.0, t), (1.0, end)):
            position = moment * self._slots_per_s
            slot = int(position)
            chunk, place, part = self._load(slot >> CHUNK_BITS), slot & _MASK, position - slot
            assert chunk.lost is not None
            for_carried, for_lost = chunk.carried, chunk.lost
            carried += sign * (for_carried[place] + part * (for_carried[place + 1] - for_carried[place]))
            lost += sign * (for_lost[place] + part * (for_lost[place + 1] - for_lost[place]))
        first, last = int(t * self._slots_per_s) >> CHUNK_BITS, int(end * self._slots_per_s) >> CHUNK_BITS
        for index in range(first, last):
            chunk = self._load(index)
            assert chunk.lost is not None
            carried += chunk.carried[CHUNK]
            lost += chunk.lost[CHUNK]
        return lost / carried if carried > 0.0 else self.state(t).loss

    def air_time(self, bits: float, t: float) -> float:
        # The same as `_integrate`, with the case of one slot in line: this is the engines' hot path.
        slot = int(t * self._slots_per_s)
        if slot >> CHUNK_BITS != self._index:
            self._load(slot >> CHUNK_BITS)
        place = slot & _MASK
        slot_bits = self._carried[place + 1] - self._carried[place]
        left_s = (slot + 1) * self._slot_s - t
        if bits * self._slot_s <= slot_bits * left_s:
            duration = bits * self._slot_s / slot_bits
        else:
            duration = self._integrate(bits, t)
        if self._outages is not None and self._outages.window(t)[0] < t + duration:
            return INFINITY
        return duration

    def _integrate(self, bits: float, t: float) -> float:
        slot = int(t * self._slots_per_s)
        index, place = slot >> CHUNK_BITS, slot & _MASK
        first = index
        last = index + int(GIVE_UP_S * self._slots_per_s / CHUNK) + 1
        if index != self._index:
            self._load(index)
        carried = self._carried
        target = (
            carried[place] + (carried[place + 1] - carried[place]) * (t * self._slots_per_s - slot) + bits
        )
        while target > carried[CHUNK]:
            target -= carried[CHUNK]
            index += 1
            if index > last:
                return INFINITY
            place = 0
            carried = self._load(index, index > first + 1).carried
        after = bisect_left(carried, target, place + 1)
        begin = carried[after - 1]
        part = (target - begin) / (carried[after] - begin)
        duration = (index * CHUNK + after - 1 + part) * self._slot_s - t
        return duration if duration <= GIVE_UP_S else INFINITY

    def cut_off(self, t: float) -> float:
        begin = INFINITY if self._outages is None else self._outages.window(t)[0]
        return max(t, min(begin, t + GIVE_UP_S))

    def corrupt(self, symbols: NDArray[np.complex64], t: float, key: int) -> NDArray[np.complex64]:
        """y = z + n / h, what a coherent receiver that knows h has in hand.

        z has unit mean power; n is keyed by (seed, "noise", device, key). Symbols leave one by one,
        `bandwidth_hz` a second from `t`, so that a long message passes several slots of block fading.
        """
        count = symbols.size
        times = t + np.arange(count) / self.rate.bandwidth_hz
        slots = (times * self._slots_per_s).astype(np.int64)
        snr_db = np.empty(count)
        for index in np.unique(slots >> CHUNK_BITS).tolist():
            inside = slots >> CHUNK_BITS == index
            snr_db[inside] = np.asarray(self._load(index).snr_db)[slots[inside] & _MASK]
        draws = generator(self._seed, "noise", self.device, key).standard_normal((count, 2))
        deviation = np.sqrt(0.5) * 10.0 ** (-0.05 * snr_db)
        noise = deviation * (draws[:, 0] + 1j * draws[:, 1])
        received: NDArray[np.complex64] = (symbols + noise.reshape(symbols.shape)).astype(np.complex64)
        return received
