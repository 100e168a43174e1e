"""A link that never changes: constant SNR."""

from __future__ import annotations

import numpy as np

from .path import CHUNK, Samples

__all__ = ["ConstantPath"]


class ConstantPath:
    """The same SNR in every slot. With Shannon's rate it is the AWGN channel; noise comes from `corrupt`."""

    has_loss = False

    def __init__(self, snr_db: float) -> None:
        self._samples = Samples(np.full(CHUNK, float(snr_db)))

    def draw(self, chunk: int) -> Samples:
        return self._samples
