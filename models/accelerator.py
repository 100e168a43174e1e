"""Where networks are trained: the same three words for every command."""

from __future__ import annotations

from typing import Literal

import torch

from ..errors import UsageError

__all__ = ["Accelerator", "training_device"]

Accelerator = Literal["auto", "cpu", "cuda"]
"""auto: a CUDA device where torch finds one, else the processor."""


def training_device(accelerator: Accelerator) -> torch.device:
    """UsageError for cuda where torch finds no CUDA device."""
    found = torch.cuda.is_available()
    if accelerator == "cuda" and not found:
        raise UsageError("accelerator cuda: torch finds no CUDA device here")
    return torch.device("cuda" if found and accelerator != "cpu" else "cpu")
