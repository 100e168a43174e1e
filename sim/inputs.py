"""The inputs of a run, for the engines that really look at them."""

from __future__ import annotations

from ..models.data import Dataset, load_data
from .setup import Setup

__all__ = ["load_inputs"]


def load_inputs(setup: Setup) -> Dataset:
    """The scenario's images, fitted to the model's size and channels."""
    config = setup.scenario.data
    return load_data(config.name, config.split, card=setup.card)
