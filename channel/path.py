"""What a physical model gives: SNR and loss over time, cut into slots, in chunks that are drawn on demand."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHUNK", "CHUNK_BITS", "JointPath", "Path", "Samples", "middles"]

CHUNK_BITS = 8
CHUNK = 1 << CHUNK_BITS


class Samples(NamedTuple):
    """One chunk of slots.

    snr_db   (CHUNK,) float64
    loss     (CHUNK,) float64 probability that a packet is lost; None where the link's own constant holds
    """

    snr_db: NDArray[np.float64]
    loss: NDArray[np.float64] | None = None


class Path(Protocol):
    """The radio path between one device and its server.

    `draw(chunk)` gives slots chunk·CHUNK to (chunk+1)·CHUNK - 1, and is a function of `chunk` alone: chunks
    may be asked for in any order, and more than once. has_loss: whether Samples have a loss.
    """

    has_loss: bool

    def draw(self, chunk: int) -> Samples: ...


class JointPath(Protocol):
    """The radio paths of several devices whose slots are drawn in one go, without a loss of their own."""

    def draw(self, chunk: int, rows: slice) -> Samples:
        """As of a Path, for the devices of these rows: snr_db is (rows, CHUNK)."""
        ...


def middles(chunk: int, slot_s: float) -> NDArray[np.float64]:
    """(CHUNK,) times of the middles of the slots of `chunk`, in seconds."""
    times: NDArray[np.float64] = (np.arange(CHUNK, dtype=np.float64) + (chunk * CHUNK + 0.5)) * slot_s
    return times
