"""The configuration of a channel, as scenarios and the emulator hold it, and what builds it."""

from __future__ import annotations

from pydantic import Field

from .build import build_link, build_links
from .link_config import (
    AwgnConfig,
    ConstantConfig,
    Frozen,
    GilbertElliottConfig,
    LinkConfig,
    OutageConfig,
    RayleighConfig,
    RicianConfig,
    SnrTraceConfig,
)
from .medium_config import (
    DedicatedConfig,
    FifoConfig,
    MahimahiConfig,
    MediumConfig,
    RoundRobinConfig,
    SnrReportConfig,
    build_medium,
    build_report,
)

__all__ = [
    "AwgnConfig",
    "ChannelConfig",
    "ConstantConfig",
    "DedicatedConfig",
    "FifoConfig",
    "GilbertElliottConfig",
    "LinkConfig",
    "MahimahiConfig",
    "MediumConfig",
    "OutageConfig",
    "RayleighConfig",
    "RicianConfig",
    "RoundRobinConfig",
    "SnrReportConfig",
    "SnrTraceConfig",
    "build_link",
    "build_links",
    "build_medium",
    "build_report",
]


class ChannelConfig(Frozen):
    """The whole radio: the links of the devices, a medium for each direction, the modem's report.

    links   one a device, by its index; devices beyond the last take the last one's, with draws of their own
    """

    links: tuple[LinkConfig, ...] = Field(min_length=1)
    uplink: MediumConfig = FifoConfig()
    downlink: MediumConfig = FifoConfig()
    report: SnrReportConfig = SnrReportConfig()

    def link_of(self, device: int) -> LinkConfig:
        """The configuration of the link of `device`."""
        return self.links[min(device, len(self.links) - 1)]
