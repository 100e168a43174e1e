"""Pixels to what a network takes: scaled to [0, 1], normalised, channels first. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .card import ModelCard
from .conv_card import ConvCard

__all__ = ["normalise"]


def normalise(images: NDArray[np.uint8], card: ModelCard | ConvCard) -> NDArray[np.float32]:
    """uint8 (N, H, W, C) or (H, W, C) to float32 (..., C, H, W), the same on device and server."""
    mean, std = (np.asarray(values, dtype=np.float32) for values in (card.mean, card.std))
    scaled = (images.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))
