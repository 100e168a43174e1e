"""The inputs of a run, for the engines that really look at them."""

from __future__ import annotations

from ..errors import DataError
from ..models.data import Dataset, load_data
from .setup import Setup

__all__ = ["load_inputs"]


def load_inputs(setup: Setup) -> Dataset:
    """The scenario's images, checked to fit the model."""
    config = setup.scenario.data
    data = load_data(config.name, config.split)
    expected = (*setup.card.image_size, setup.card.channels)
    if data.images.shape[1:] != expected:
        raise DataError(f"images of '{config.name}' are {data.images.shape[1:]}, the model takes {expected}")
    return data
