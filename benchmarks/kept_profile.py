"""Profiles that a benchmark measures once and keeps in its working folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from splitpoint.models.data import Dataset
from splitpoint.models.grid import Grid
from splitpoint.models.measure import images_id, measure
from splitpoint.models.measure_heads import Heads
from splitpoint.models.profile import Profile, SplitName

__all__ = ["kept_profile"]


def kept_profile(
    path: Path,
    model: str,
    data: Dataset,
    split: SplitName,
    grid: Grid,
    coder: str = "packed",
    rescored: Callable[[Heads], None] | None = None,
) -> Profile:
    """The Profile of `data`: that of `path` where images, grid and coder are the same, else measured and kept there.

    path      its name tells model and scores apart
    rescored  as of `measure`
    """
    if path.exists():
        profile = Profile.load(path)
        if (profile.grid, profile.coder, profile.images_id) == (grid, coder, images_id(data)):
            return profile
    profile = measure(model, data, split, grid=grid, coder=coder, rescored=rescored)
    profile.save(path)
    return profile
