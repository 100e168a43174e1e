"""Checkpoints of trainings: whole or not at all, and never of another configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import DataError, UsageError
from ..whole_file import whole_file

__all__ = ["read_checkpoint", "write_checkpoint"]

_IDENTITY = "config"


def write_checkpoint(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Put `state` into the file, in place of an older one. DataError where it cannot be written.

    identity  text that is equal for trainings that lead to the same weights
    """
    with whole_file(path, "checkpoint") as partial:
        try:
            torch.save({_IDENTITY: identity, **state}, partial)
        except RuntimeError as error:  # what torch says of a file that it cannot open or fill
            raise OSError(str(error)) from error


def read_checkpoint(
    path: Path, identity: str, device: torch.device | str | None = None
) -> dict[str, Any] | None:
    """What was written last, its tensors on `device`; None where there is nothing.

    DataError for a file that is no checkpoint, UsageError for one of another configuration.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        found = state.get(_IDENTITY)
    except Exception as error:  # torch raises half a dozen kinds here, and what it reads may be no dict
        raise DataError(f"cannot read {path}; remove it to train anew") from error
    if found != identity:
        raise UsageError(
            f"{path} is of another configuration or of other data: give another --out or remove it"
        )
    return state
