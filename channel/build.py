"""What builds the links of a configuration: one, or those of all devices of a run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ..errors import ConfigError, did_you_mean
from ..seeding import generator
from .constant import ConstantPath
from .gilbert_elliott import GilbertElliottPath
from .link_config import (
    AwgnConfig,
    ConstantConfig,
    GilbertElliottConfig,
    LinkConfig,
    OutageConfig,
    RayleighConfig,
    RicianConfig,
    SnrTraceConfig,
)
from .outages import BurstOutages, ListedOutages, Outages
from .path import JointPath, Path
from .rate import FixedRate, Rate, ShannonRate
from .rayleigh import RayleighPath
from .rician import RicianPath
from .slots import JointSlots, OwnSlots, Seat, Slots
from .slotted_link import SlottedLink
from .snr_trace import SnrTrace, SnrTracePath, read_traces

__all__ = ["build_link", "build_links"]

_TOGETHER = 32
"""Most links that are drawn together: what a draw works on then fits into a processor's cache."""


def build_link(config: LinkConfig, seed: int, device: int) -> SlottedLink:
    """The link of `device`: the same for every policy of a run.

    Reads trace files; raises DataError for those, ConfigError for a trace that is not in its file.
    """
    return _build(config, seed, [device])[0]


def build_links(configs: Sequence[LinkConfig], seed: int) -> list[SlottedLink]:
    """The links of devices 0, 1, ...: each as from `build_link`; neighbours of one configuration share their draws."""
    links: list[SlottedLink] = []
    for _, same in groupby(enumerate(configs), lambda item: id(item[1])):
        members = list(same)
        parts = -(-len(members) // _TOGETHER)
        for part in range(parts):
            begin, end = (place * len(members) // parts for place in (part, part + 1))
            links += _build(members[0][1], seed, [device for device, _ in members[begin:end]])
    return links


def _build(config: LinkConfig, seed: int, devices: Sequence[int]) -> list[SlottedLink]:
    rate: Rate
    if isinstance(config, ConstantConfig):
        rate = FixedRate(config.rate_bps, config.bandwidth_hz)
    else:
        rate = ShannonRate(config.bandwidth_hz, config.gap_db, config.rate_scale)
    return [
        SlottedLink(
            slots,
            rate,
            slot_s=config.slot_s,
            round_trip_s=config.round_trip_s,
            loss=config.loss,
            outages=_outages(config.outages, seed, device),
            seed=seed,
            device=device,
        )
        for device, slots in zip(devices, _slots(config, rate, seed, devices), strict=True)
    ]


def _slots(config: LinkConfig, rate: Rate, seed: int, devices: Sequence[int]) -> Sequence[Slots]:
    if not isinstance(config, RayleighConfig):
        return [OwnSlots(_path(config, seed, device), rate, config.slot_s) for device in devices]
    means = [_mean_snr_db(config, seed, device) for device in devices]
    path: JointPath
    if isinstance(config, RicianConfig):
        path = RicianPath(means, config.k_factor_db, config.doppler_hz, config.slot_s, seed, devices)
    else:
        path = RayleighPath(means, config.doppler_hz, config.slot_s, seed, devices)
    joint = JointSlots(path, rate, config.slot_s, len(devices))
    return [Seat(joint, place) for place in range(len(devices))]


def _mean_snr_db(config: AwgnConfig | RayleighConfig | GilbertElliottConfig, seed: int, device: int) -> float:
    if not config.shadowing_db:
        return config.mean_snr_db
    return config.mean_snr_db + config.shadowing_db * float(
        generator(seed, "shadowing", device).standard_normal()
    )


def _outages(config: OutageConfig, seed: int, device: int) -> Outages | None:
    if config.windows:
        return ListedOutages(config.windows)
    if config.mean_up_s is None or config.mean_down_s is None:
        return None
    # Devices count from 1 here, so that 0 is the key of what all share.
    return BurstOutages(config.mean_up_s, config.mean_down_s, seed, 0 if config.shared else device + 1)


def _path(
    config: ConstantConfig | SnrTraceConfig | AwgnConfig | GilbertElliottConfig, seed: int, device: int
) -> Path:
    if isinstance(config, ConstantConfig):
        return ConstantPath(config.snr_db)
    if isinstance(config, SnrTraceConfig):
        return _trace_path(config, seed, device)
    mean = _mean_snr_db(config, seed, device)
    if isinstance(config, AwgnConfig):
        return ConstantPath(mean)
    return GilbertElliottPath(
        config.mean_good_s,
        config.mean_bad_s,
        (mean, config.loss),
        (mean - config.bad_drop_db, config.bad_loss),
        config.slot_s,
        seed,
        device,
    )


def _trace_path(config: SnrTraceConfig, seed: int, device: int) -> SnrTracePath:
    traces = read_traces(config.path, config.column, config.time_column, config.name_column, config.period_s)
    trace: SnrTrace
    if config.trace is None:
        trace = list(traces.values())[device % len(traces)]
    elif config.trace in traces:
        trace = traces[config.trace]
    else:
        known = did_you_mean(config.trace, traces) if any(traces) else "its one recording has no name"
        raise ConfigError(f"{config.path} has no trace '{config.trace}'; {known}")
    start_s = config.start_s
    if start_s is None:
        start_s = trace.duration_s * float(generator(seed, "trace-start", device).random())
    return SnrTracePath(trace, config.slot_s, start_s, config.offset_db, config.interpolate)
