"""Packets that have to be sent again, on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...channel.retransmission import LARGE_MEAN, lost_packets

__all__ = ["lost_packet_rows"]


def lost_packet_rows(
    packets: NDArray[np.float64], loss: NDArray[np.float64], uniform: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`channel.retransmission.lost_packets` of N messages, whole numbers as float64 (N,)."""
    lost = np.zeros_like(packets)
    mean = packets * loss / (1.0 - loss)
    for place in np.flatnonzero(mean > LARGE_MEAN).tolist():
        lost[place] = lost_packets(int(packets[place]), float(loss[place]), float(uniform[place]))
    probability = np.exp(packets * np.log1p(-loss))
    cumulative = probability.copy()
    more = (cumulative <= uniform) & (mean <= LARGE_MEAN) & (loss > 0.0)
    while more.any():
        np.multiply(probability, loss * (packets + lost) / (lost + 1.0), out=probability, where=more)
        lost += more
        np.add(cumulative, probability, out=cumulative, where=more)
        more &= (cumulative <= uniform) & (probability > 1e-18)
    return lost
