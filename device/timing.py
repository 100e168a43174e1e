"""How long a device of given speed needs: multiply-accumulates over its rate."""

from __future__ import annotations

from ..models.card import ModelCard
from ..models.macs import head_macs

__all__ = ["block_times"]


def block_times(card: ModelCard, macs_per_s: float) -> tuple[float, ...]:
    """Seconds from the input to every cut, the exits on the way included; float (depth + 1,), the first 0."""
    return (0.0, *(head_macs(card, cut) / macs_per_s for cut in range(1, card.depth + 1)))
