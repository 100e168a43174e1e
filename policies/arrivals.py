"""When requests come to a device, keyed by (seed, device, request)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..seeding import generator

__all__ = ["ArrivalsConfig", "Bursts", "Periodic", "Poisson", "arrival_rows", "arrival_times"]


class _Arrivals(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Poisson(_Arrivals):
    """Independent requests at a mean rate."""

    kind: Literal["poisson"] = "poisson"
    rate_hz: float = Field(gt=0)


class Periodic(_Arrivals):
    """A camera: one request every period, from a phase of each device's own."""

    kind: Literal["periodic"] = "periodic"
    period_s: float = Field(gt=0)


class Bursts(_Arrivals):
    """`size` requests at once, bursts as a Poisson process; what gives ADC its batches."""

    kind: Literal["bursts"] = "bursts"
    rate_hz: float = Field(gt=0, description="bursts per second")
    size: int = Field(ge=1)


ArrivalsConfig = Annotated[Poisson | Periodic | Bursts, Field(discriminator="kind")]


def arrival_times(config: Poisson | Periodic | Bursts, seed: int, device: int, count: int) -> np.ndarray:
    """Arrival times in seconds from the start, float64 (count,), ascending.

    A longer run begins with the arrivals of a shorter one.
    """
    return arrival_rows(config, generator(seed, "arrivals", device), 1, count)[0]


def arrival_rows(
    config: Poisson | Periodic | Bursts, draws: np.random.Generator, rows: int, count: int
) -> np.ndarray:
    """The same for several devices from one generator, float64 (rows, count)."""
    if isinstance(config, Periodic):
        return config.period_s * (draws.random((rows, 1)) + np.arange(count))
    if isinstance(config, Bursts):
        bursts = -(-count // config.size)
        times = np.cumsum(draws.exponential(1.0 / config.rate_hz, (rows, bursts)), axis=1)
        return np.repeat(times, config.size, axis=1)[:, :count]
    return np.cumsum(draws.exponential(1.0 / config.rate_hz, (rows, count)), axis=1)
