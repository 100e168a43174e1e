"""Configuration of media and of the modem's report, and what builds them."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from .link import Link
from .link_config import Frozen, Spread
from .mahimahi import MahimahiMedium, read_opportunities
from .medium import DedicatedMedium, FifoMedium, Medium
from .report import SnrReport
from .round_robin import RoundRobinMedium

__all__ = [
    "DedicatedConfig",
    "FifoConfig",
    "MahimahiConfig",
    "MediumConfig",
    "RoundRobinConfig",
    "SnrReportConfig",
    "build_medium",
    "build_report",
]


class FifoConfig(Frozen):
    """First come, first served."""

    kind: Literal["fifo"] = "fifo"


class RoundRobinConfig(Frozen):
    """Packets of the devices take turns."""

    kind: Literal["round_robin"] = "round_robin"


class DedicatedConfig(Frozen):
    """Each device has a medium of its own."""

    kind: Literal["dedicated"] = "dedicated"


class MahimahiConfig(Frozen):
    """The capacity is that of a Mahimahi trace file; `rate_scale` multiplies the bytes of an opportunity."""

    kind: Literal["mahimahi"] = "mahimahi"
    path: str
    rate_scale: PositiveFloat = 1.0


MediumConfig = Annotated[
    FifoConfig | RoundRobinConfig | DedicatedConfig | MahimahiConfig, Field(discriminator="kind")
]


class SnrReportConfig(Frozen):
    """How coarse, old and noisy the modem's SNR is, and how often it comes without a reply (`report.py`)."""

    step_db: NonNegativeFloat = 1.0
    delay_s: NonNegativeFloat = 0.02
    sigma_db: Spread = 1.0
    every_s: float | None = Field(None, ge=0.001)


def build_medium(config: MediumConfig) -> Medium:
    """A fresh medium, idle at time 0."""
    if isinstance(config, FifoConfig):
        return FifoMedium()
    if isinstance(config, RoundRobinConfig):
        return RoundRobinMedium()
    if isinstance(config, DedicatedConfig):
        return DedicatedMedium()
    return MahimahiMedium(read_opportunities(config.path), config.rate_scale)


def build_report(
    config: SnrReportConfig, link: Link, seed: int, medium: Medium | None = None, requests: int = 0
) -> SnrReport:
    """The modem's reports on `link`; `medium` is the way up, if it limits the rate by itself.

    requests: how many there will be, where that is known.
    """
    limits = medium is not None and math.isfinite(medium.rate_bps(0.0))
    return SnrReport(
        link,
        step_db=config.step_db,
        delay_s=config.delay_s,
        sigma_db=config.sigma_db,
        every_s=config.every_s,
        seed=seed,
        medium=medium if limits else None,
        requests=requests,
    )
