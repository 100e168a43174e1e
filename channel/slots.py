"""The slots of links, drawn in chunks: of one link by itself, or of links of equal configuration together.

    path (SNR, loss) ─► rate ─► bits a slot can carry ─► cumulative sums, so that a transfer time is a bisection

What a chunk holds is a function of (seed, device, chunk) alone, whoever it was drawn with. Drawn together, a few numpy
calls serve many devices: called for one device at a time, between requests, they cost several times the arithmetic.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .path import CHUNK, JointPath, Path, Samples
from .rate import Rate

__all__ = ["Chunk", "JointSlots", "OwnSlots", "Seat", "Slots"]

_KEPT = 2
_LEAST_USE = 8
"""Where fewer than one in eight come to a chunk, drawing it for all costs more than it saves."""


class Chunk(NamedTuple):
    """One chunk of one link's slots, as Python floats come fastest out of it."""

    carried: array[float]  # (CHUNK + 1,) bits carried from the chunk's begin to each slot's begin
    snr_db: array[float]  # (CHUNK,)
    loss: array[float] | None  # (CHUNK,)
    lost: array[float] | None  # (CHUNK + 1,) of `carried`, the expected bits in lost packets


class Slots(Protocol):
    """What a link needs of its slots. has_loss: whether they give a loss of their own."""

    has_loss: bool

    def bits(self, index: int) -> tuple[Samples, NDArray[np.float64]]:
        """SNR and loss of the slots of a chunk, and the bits that each can carry, (CHUNK,)."""
        ...

    def chunk(self, index: int, *, ahead: bool) -> Chunk:
        """A chunk; ahead: far ahead of the time that the others have reached."""
        ...


class OwnSlots:
    """Of a path of one's own."""

    def __init__(self, path: Path, rate: Rate, slot_s: float) -> None:
        self.has_loss = path.has_loss
        self._path, self._rate, self._slot_s = path, rate, slot_s
        self._samples: Samples | None = None
        self._chunk: Chunk

    def bits(self, index: int) -> tuple[Samples, NDArray[np.float64]]:
        samples = self._path.draw(index)
        return samples, self._rate.over(samples.snr_db) * self._slot_s

    def chunk(self, index: int, *, ahead: bool) -> Chunk:
        samples = self._path.draw(index)
        # Of a path that never changes all chunks are one.
        if samples is not self._samples:
            bits = self._rate.over(samples.snr_db) * self._slot_s
            loss = lost = None
            if samples.loss is not None:
                loss = _floats(samples.loss)
                lost = _floats(_cumulative(bits * samples.loss))
            self._samples = samples
            self._chunk = Chunk(_floats(_cumulative(bits)), _floats(samples.snr_db), loss, lost)
        return self._chunk


class JointSlots:
    """Of `count` links that are drawn together. The newest chunks are kept for those that have not come to them yet.

    Where few of the links ask for what was drawn for all (most requests stay local, or an oracle looks ahead), each is
    drawn alone from then on.
    """

    def __init__(self, path: JointPath, rate: Rate, slot_s: float, count: int) -> None:
        self._path, self._rate, self._slot_s, self._count = path, rate, slot_s, count
        self._drawn: dict[int, list[Chunk]] = {}
        self._uses: dict[int, int] = {}
        self._together = count > 1

    def bits(self, place: int, index: int) -> tuple[Samples, NDArray[np.float64]]:
        samples = self._path.draw(index, slice(place, place + 1))
        return Samples(samples.snr_db[0]), (self._rate.over(samples.snr_db) * self._slot_s)[0]

    def chunk(self, place: int, index: int, ahead: bool) -> Chunk:
        drawn = self._drawn.get(index)
        if drawn is None:
            if not ahead and len(self._drawn) == _KEPT:
                oldest = next(iter(self._drawn))
                del self._drawn[oldest]
                self._together &= self._uses.pop(oldest) * _LEAST_USE >= self._count
            if ahead or not self._together:
                return self._draw(index, slice(place, place + 1))[0]
            drawn = self._drawn[index] = self._draw(index, slice(None))
            self._uses[index] = 0
        self._uses[index] += 1
        return drawn[place]

    def _draw(self, index: int, rows: slice) -> list[Chunk]:
        snr_db = self._path.draw(index, rows).snr_db
        carried = _cumulative(self._rate.over(snr_db) * self._slot_s)
        return [Chunk(_floats(c), _floats(s), None, None) for c, s in zip(carried, snr_db, strict=True)]


class Seat:
    """One link's place among JointSlots."""

    has_loss = False

    def __init__(self, joint: JointSlots, place: int) -> None:
        self._joint, self._place = joint, place

    def bits(self, index: int) -> tuple[Samples, NDArray[np.float64]]:
        return self._joint.bits(self._place, index)

    def chunk(self, index: int, *, ahead: bool) -> Chunk:
        return self._joint.chunk(self._place, index, ahead)


def _cumulative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., CHUNK) -> (..., CHUNK + 1), beginning with 0."""
    sums = np.zeros((*values.shape[:-1], CHUNK + 1))
    np.add.accumulate(values, axis=-1, out=sums[..., 1:])
    return sums


def _floats(values: NDArray[np.float64]) -> array[float]:
    # Python floats come out of an array faster than out of numpy, and it is smaller than a list.
    return array("d", values.tobytes())
