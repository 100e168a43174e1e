"""Views of a training split for a network that exists: what codecs, codes and gates are trained on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ..errors import DataError
from .card import ModelCard
from .data import NAMED, load_data
from .own import own_data, trained_flipped
from .training_data import ClutterData, StoredData, TrainingData

__all__ = ["training_views"]

_VIEWS = 4


def training_views(data: str, card: ModelCard, seed: int, data_dir: Path | None = None) -> TrainingData:
    """Views of the training split of a named set, an image folder or a parquet file, for the network of `card`.

    DataError where they have other classes than the network, or are clutter's canvases and it takes other images.
    """
    if data == "clutter":
        drawn = ClutterData(seed, _VIEWS, 0)
        shape, classes = drawn.held_out.images.shape[1:], drawn.held_out.classes
        if (shape, classes) != ((*card.image_size, card.channels), card.classes):
            raise DataError(
                f"clutter's canvases, {shape} of {len(classes)} digits, are not what {card.name} takes"
            )
        return drawn
    if data in NAMED:
        return StoredData(
            seed, partial(load_data, data, card=card, data_dir=data_dir), flip=trained_flipped(card)
        )
    return own_data(data, card, seed, matched=True)[0]
