"""What an environment is made of: one device's surroundings, the reward's constants, the choices of an action."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ...channel.config import LinkConfig, MediumConfig, SnrReportConfig
from ..arrivals import ArrivalsConfig
from ..decision import NEVER
from ..features import Scales
from ..rules import Power, UtilityWeights
from ..service_time import Pace

__all__ = ["EnvironmentConfig"]


class EnvironmentConfig(BaseModel):
    """A device, its radio, its server and the utility, as a scenario says them, and how an episode looks.

    The lists of levels are what an action chooses from; None stands for all that the profile was measured at,
    for `exit_margins` for quantiles of the margins of the profile's first exit, with "always" and "never".
    Levels off the profile's grid are a GridError when the environment is made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: int = Field(0, ge=0, description="its index in the engines, by which its paths are drawn")
    macs_per_s: float = Field(gt=0, description="how fast the device computes")
    overhead_s: float = Field(ge=0, description="per offloaded request: codec and RPC")
    slack_s: float = Field(ge=0, description="kept in reserve before the deadline")
    battery_j: float = Field(float("inf"), gt=0, description="infinite: on mains")
    power: Power
    arrivals: ArrivalsConfig
    link: LinkConfig
    uplink: MediumConfig
    downlink: MediumConfig
    report: SnrReportConfig
    coherence_s: float = Field(gt=0, description="how long a report of the link is believed")
    probe_s: float = Field(gt=0, description="how often the device looks whether a lost link is back")
    server: Pace
    max_batch: int = Field(16, ge=1)
    weights: UtilityWeights

    episode_requests: int = Field(200, ge=1, description="steps of an episode (requests of each device)")
    start_spread_s: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="an episode begins at a random time up to this: traces are then met anywhere",
    )
    keeps: tuple[float, ...] | None = Field(None, min_length=1)
    dims: tuple[int, ...] | None = Field(None, min_length=1)
    bits: tuple[int, ...] | None = Field(None, min_length=1)
    exit_margins: tuple[float, ...] | None = Field(None, min_length=1)
    offload_slopes: tuple[float, ...] = Field((-NEVER, 0.0), min_length=1)

    @property
    def deadline_s(self) -> float:
        return self.weights.deadline_s

    @property
    def scales(self) -> Scales:
        return Scales(self.deadline_s, self.battery_j)
