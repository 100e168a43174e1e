"""What a physical model gives: SNR and loss over time, cut into slots, in chunks that are drawn on demand."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHUNK", "CHUNK_BITS", "Path", "Samples", "middles"]

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
    may be asked for in any order, and more than once.
    """

    def draw(self, chunk: int) -> Samples: ...


def middles(chunk: int, slot_s: float) -> NDArray[np.float64]:
    """(CHUNK,) times of the middles of the slots of `chunk`, in seconds."""
    times: NDArray[np.float64] = (np.arange(CHUNK, dtype=np.float64) + (chunk * CHUNK + 0.5)) * slot_s
    return times
