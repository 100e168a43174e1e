"""The inputs of a run, for the engines that really look at them."""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError
from ..models.data import Dataset, load_data
from .setup import Setup

__all__ = ["load_inputs"]


def load_inputs(setup: Setup) -> Dataset:
    """The scenario's images, fitted to the model's size and channels.

    Where there is an evaluation profile, as many as were measured: all engines draw from the same. ConfigError where
    the profile was measured on others, by their labels; pixels may differ by a decoder's version.
    """
    config = setup.scenario.data
    data = load_data(config.name, config.split, card=setup.card)
    if not setup.profile_path("evaluation").exists():
        return data
    measured = setup.evaluation.labels
    data = data.some(len(measured))
    if not np.array_equal(data.labels, measured):
        raise ConfigError(
            f"data: {setup.profile_path('evaluation')} was not measured on {config.name}: name in data.name what it "
            f"was, or `splitpoint profile {setup.scenario.model} --split evaluation --data {config.name}`"
        )
    return data
