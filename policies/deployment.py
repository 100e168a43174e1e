"""What a policy may know beforehand of its own deployment, and the costs that follow from it."""

from __future__ import annotations

from typing import NamedTuple

from .rules import Power, UtilityWeights
from .service_time import Pace

__all__ = ["Deployment"]


class Deployment(NamedTuple):
    """The fixed, known part of one device's surroundings.

    block_s          seconds from the input to every cut on this device, (depth + 1,)
    overhead_s       codec and RPC, for each offloaded request
    slack_s          kept in reserve before the deadline
    server           its speed
    power, weights   what energy and utility are reckoned by
    """

    block_s: tuple[float, ...]
    overhead_s: float
    slack_s: float
    server: Pace
    power: Power
    weights: UtilityWeights
