"""The sections of a scenario file but for the policies: data, radio, devices, server, utility, faults."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..channel.config import FifoConfig, LinkConfig, MediumConfig, SnrReportConfig
from ..policies.arrivals import ArrivalsConfig, Poisson
from ..policies.budgets import Budgets
from ..policies.rules import Power

__all__ = [
    "BudgetsConfig",
    "DataConfig",
    "DeviceGroup",
    "Fault",
    "PowerConfig",
    "RadioConfig",
    "Section",
    "ServerConfig",
    "UtilityConfig",
]


class Section(BaseModel):
    """What all sections share: frozen, unknown keys and infinities refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Where the inputs come from."""

    name: str = Field("clutter", description="a named set, a parquet file or an image folder")
    split: str = Field("evaluation", description="for named sets: which split")
    hard_share: tuple[tuple[float, float], ...] = Field(
        (),
        description="(from second, share of hard inputs), rising: what inputs are drawn changes over the run",
    )

    @model_validator(mode="after")
    def _shares(self) -> DataConfig:
        times = [at_s for at_s, _ in self.hard_share]
        if times != sorted(set(times)) or any(at_s < 0.0 for at_s in times):
            raise ValueError("hard_share must be given at rising times, none before 0")
        if not all(0.0 <= share <= 1.0 for _, share in self.hard_share):
            raise ValueError("a share of hard inputs must lie in [0, 1]")
        return self


class PowerConfig(Section):
    """What a device draws, in watts."""

    cpu_w: float = Field(2.5, ge=0)
    tx_w: float = Field(1.3, ge=0)
    rx_w: float = Field(0.9, ge=0)
    idle_w: float = Field(0.3, ge=0)

    def power(self) -> Power:
        return Power(self.cpu_w, self.tx_w, self.rx_w, self.idle_w)


class RadioConfig(Section):
    """The radio: every device's link, a medium for each direction, the modem's report."""

    link: LinkConfig
    uplink: MediumConfig = FifoConfig()
    downlink: MediumConfig = FifoConfig()
    report: SnrReportConfig = SnrReportConfig()


class BudgetsConfig(Section):
    """Long-term means per request that policies must not exceed; what is left out has no budget."""

    latency_s: float | None = Field(None, gt=0)
    energy_j: float | None = Field(None, gt=0)
    airtime_s: float | None = Field(None, gt=0)

    def budgets(self) -> Budgets:
        return Budgets(self.latency_s, self.energy_j, self.airtime_s)


class DeviceGroup(Section):
    """Equal devices with links of their own of one kind."""

    count: int = Field(4, ge=1, le=100_000)
    macs_per_s: float = Field(1.0e9, gt=0, description="how fast a device computes")
    overhead_s: float = Field(0.002, ge=0, description="per offloaded request: codec and RPC")
    slack_s: float = Field(0.01, ge=0, description="kept in reserve before the deadline")
    battery_j: float | None = Field(None, gt=0, description="none: on mains")
    power: PowerConfig = PowerConfig()
    arrivals: ArrivalsConfig = Poisson(rate_hz=5.0)
    link: LinkConfig | None = Field(None, description="where it differs from the scenario's channel")


class ServerConfig(Section):
    """How fast the server is and how it batches."""

    macs_per_s: float = Field(2.0e10, gt=0)
    base_s: float = Field(0.001, ge=0, description="per segment of a batch, whatever its size")
    max_batch: int = Field(16, ge=1)
    max_pending: int = Field(256, ge=1, description="requests beyond this are refused")


class UtilityConfig(Section):
    """Constants of the utility; the weights have no unit."""

    latency: float = Field(0.2, ge=0)
    energy: float = Field(0.1, ge=0)
    airtime: float = Field(0.1, ge=0)
    late: float = Field(0.5, ge=0)
    energy_ref_j: float = Field(0.1, gt=0)
    airtime_ref_s: float = Field(0.05, gt=0)


class Fault(Section):
    """Something that happens to the server, or to one process of a quorum, during the run of each policy."""

    kind: Literal["kill", "freeze", "drain"]
    process: str = Field(
        "", description="the server process of a quorum's learners; empty: the server itself"
    )
    at_s: float = Field(ge=0)
    for_s: float = Field(gt=0, description="until it is started again or goes on")
