"""The inputs of a run, for the engines that really look at them."""

from __future__ import annotations

from ..models.data import Dataset, load_data
from .setup import Setup

__all__ = ["load_inputs"]


def load_inputs(setup: Setup) -> Dataset:
    """The scenario's images, fitted to the model's size and channels.

    Where there is an evaluation profile, as many as were measured: all engines draw from the same.
    """
    config = setup.scenario.data
    data = load_data(config.name, config.split, card=setup.card)
    return data.first(len(setup.evaluation)) if setup.profile_path("evaluation").exists() else data
