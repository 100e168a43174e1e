"""Configuration of links and what builds them. Units are in the names; `kind` selects the physical model."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator

from ..errors import ConfigError, did_you_mean
from ..seeding import generator
from .constant import ConstantPath
from .gilbert_elliott import GilbertElliottPath
from .link import SlottedLink
from .outages import BurstOutages, ListedOutages, Outages
from .path import Path
from .rate import FixedRate, Rate, ShannonRate
from .rayleigh import RayleighPath
from .rician import RicianPath
from .snr_trace import SnrTrace, SnrTracePath, read_traces

__all__ = [
    "AwgnConfig",
    "ConstantConfig",
    "Frozen",
    "GilbertElliottConfig",
    "LinkConfig",
    "OutageConfig",
    "RayleighConfig",
    "RicianConfig",
    "SnrTraceConfig",
    "build_link",
]

Loss = Annotated[float, Field(ge=0.0, le=0.9)]
Decibel = Annotated[float, Field(ge=-200.0, le=200.0)]


class Frozen(BaseModel):
    """What all configurations share: frozen, unknown keys and infinities refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OutageConfig(Frozen):
    """Either `windows` of (begin_s, end_s), or bursts of the two mean durations, drawn by seed and device.

    shared   bursts that hit all devices at once, as when a base station is down
    """

    windows: tuple[tuple[NonNegativeFloat, NonNegativeFloat], ...] = ()
    mean_up_s: PositiveFloat | None = None
    mean_down_s: PositiveFloat | None = None
    shared: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bursts = self.mean_up_s is not None or self.mean_down_s is not None
        if bursts and self.windows:
            raise ValueError("give either windows or mean_up_s and mean_down_s")
        if bursts and (self.mean_up_s is None or self.mean_down_s is None):
            raise ValueError("mean_up_s and mean_down_s belong together")
        edges = [edge for window in self.windows for edge in window]
        if any(later <= earlier for earlier, later in pairwise(edges)):
            raise ValueError("windows must be (begin_s, end_s) in rising order and must not touch")
        return self


class _LinkConfig(Frozen):
    """round_trip_s of an empty message, half of it each way; loss of a packet; slot_s of block fading."""

    round_trip_s: NonNegativeFloat = 0.01
    loss: Loss = 0.0
    slot_s: PositiveFloat = 0.01
    outages: OutageConfig = OutageConfig()


class ConstantConfig(_LinkConfig):
    """The same rate for ever; `snr_db` is only reported, and sets the noise on symbols."""

    kind: Literal["constant"] = "constant"
    rate_bps: PositiveFloat
    snr_db: Decibel = 20.0
    bandwidth_hz: PositiveFloat = 1e6
    slot_s: PositiveFloat = 1.0


class _ShannonConfig(_LinkConfig):
    """Rate = rate_scale · bandwidth_hz · log2(1 + SNR / gap)."""

    bandwidth_hz: PositiveFloat = 1e6
    gap_db: NonNegativeFloat = 3.0
    rate_scale: PositiveFloat = 1.0


class _MeanSnrConfig(_ShannonConfig):
    """mean_snr_db over time; each device's own mean lies around it with deviation `shadowing_db`."""

    mean_snr_db: Decibel = 15.0
    shadowing_db: NonNegativeFloat = 0.0


class AwgnConfig(_MeanSnrConfig):
    """Constant SNR, Shannon's rate with the gap, white noise on symbols."""

    kind: Literal["awgn"] = "awgn"
    slot_s: PositiveFloat = 1.0


class RayleighConfig(_MeanSnrConfig):
    """Fading without a line of sight; coherence time is about 0.4 / doppler_hz."""

    kind: Literal["rayleigh"] = "rayleigh"
    doppler_hz: NonNegativeFloat = 5.0


class RicianConfig(RayleighConfig):
    """Fading around a line of sight, k_factor_db stronger than the scatter."""

    kind: Literal["rician"] = "rician"  # type: ignore[assignment]
    k_factor_db: Decibel = 6.0


class GilbertElliottConfig(_MeanSnrConfig):
    """Good and bad times of the given means. `loss` and the mean SNR hold in good ones."""

    kind: Literal["gilbert_elliott"] = "gilbert_elliott"
    mean_good_s: PositiveFloat = 1.0
    mean_bad_s: PositiveFloat = 0.1
    bad_loss: Loss = 0.5
    bad_drop_db: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _slots_are_fine(self) -> Self:
        if self.slot_s / self.mean_good_s + self.slot_s / self.mean_bad_s > 1.0:
            raise ValueError("slot_s is too long for mean_good_s and mean_bad_s")
        return self


class SnrTraceConfig(_ShannonConfig):
    """SNR read from a file (`snr_trace.py`), repeating.

    trace       the recording's name; None gives each device another one of the file, in order of names
    start_s     where in the recording time 0 lies; None: drawn by seed and device
    offset_db   added to every value
    period_s    of the rows, where the file has no `time_column`
    """

    kind: Literal["snr_trace"] = "snr_trace"
    path: str
    trace: str | None = None
    column: str = "snr_db"
    time_column: str = "time_s"
    name_column: str = "trace"
    period_s: PositiveFloat = 1.0
    start_s: NonNegativeFloat | None = 0.0
    offset_db: Decibel = 0.0
    interpolate: bool = True
    slot_s: PositiveFloat = 0.1


LinkConfig = Annotated[
    ConstantConfig | AwgnConfig | RayleighConfig | RicianConfig | GilbertElliottConfig | SnrTraceConfig,
    Field(discriminator="kind"),
]


def build_link(config: LinkConfig, seed: int, device: int) -> SlottedLink:
    """The link of `device`: the same for every policy of a run.

    Reads trace files; raises DataError for those, ConfigError for a trace that is not in its file.
    """
    rate: Rate
    if isinstance(config, ConstantConfig):
        rate = FixedRate(config.rate_bps, config.bandwidth_hz)
    else:
        rate = ShannonRate(config.bandwidth_hz, config.gap_db, config.rate_scale)
    return SlottedLink(
        _path(config, seed, device),
        rate,
        slot_s=config.slot_s,
        round_trip_s=config.round_trip_s,
        loss=config.loss,
        outages=_outages(config.outages, seed, device),
        seed=seed,
        device=device,
    )


def _outages(config: OutageConfig, seed: int, device: int) -> Outages | None:
    if config.windows:
        return ListedOutages(config.windows)
    if config.mean_up_s is None or config.mean_down_s is None:
        return None
    # Devices count from 1 here, so that 0 is the key of what all share.
    return BurstOutages(config.mean_up_s, config.mean_down_s, seed, 0 if config.shared else device + 1)


def _path(config: LinkConfig, seed: int, device: int) -> Path:
    if isinstance(config, ConstantConfig):
        return ConstantPath(config.snr_db)
    if isinstance(config, SnrTraceConfig):
        return _trace_path(config, seed, device)
    mean = config.mean_snr_db
    if config.shadowing_db:
        mean += config.shadowing_db * float(generator(seed, "shadowing", device).standard_normal())
    if isinstance(config, AwgnConfig):
        return ConstantPath(mean)
    if isinstance(config, RicianConfig):
        return RicianPath(mean, config.k_factor_db, config.doppler_hz, config.slot_s, seed, device)
    if isinstance(config, RayleighConfig):
        return RayleighPath(mean, config.doppler_hz, config.slot_s, seed, device)
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
        raise ConfigError(
            f"{config.path} has no trace '{config.trace}'; {did_you_mean(config.trace, traces)}"
        )
    start_s = config.start_s
    if start_s is None:
        start_s = trace.duration_s * float(generator(seed, "trace-start", device).random())
    return SnrTracePath(trace, config.slot_s, start_s, config.offset_db, config.interpolate)
