"""Configuration of links (`build.py` builds them). Units are in the names; `kind` selects the physical model."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator

from .link import GIVE_UP_S
from .snr_trace import NAME_COLUMN, TIME_COLUMN

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
]

Loss = Annotated[float, Field(ge=0.0, le=0.9)]
Decibel = Annotated[float, Field(ge=-200.0, le=200.0)]
Spread = Annotated[float, Field(ge=0.0, le=200.0)]
"""A standard deviation in dB; with much more no power is a number any longer."""
Slot = Annotated[float, Field(ge=1e-4, le=GIVE_UP_S)]
"""With much less, a transfer on a link that carries nothing would pass millions of slots before it is given up."""
Burst = Annotated[float, Field(ge=1e-3)]
"""Bursts are drawn one after the other from time 0 on."""


class Frozen(BaseModel):
    """What all configurations share: frozen, unknown keys and infinities refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OutageConfig(Frozen):
    """Either `windows` of (begin_s, end_s), or bursts of the two mean durations, drawn by seed and device.

    shared   bursts that hit all devices at once, as when a base station is down
    """

    windows: tuple[tuple[NonNegativeFloat, NonNegativeFloat], ...] = ()
    mean_up_s: Burst | None = None
    mean_down_s: Burst | None = None
    shared: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bursts = self.mean_up_s is not None or self.mean_down_s is not None
        if bursts and self.windows:
            raise ValueError("give either windows or mean_up_s and mean_down_s")
        if bursts and (self.mean_up_s is None or self.mean_down_s is None):
            raise ValueError("mean_up_s and mean_down_s belong together")
        if self.shared and not (bursts or self.windows):
            raise ValueError("shared says whom bursts hit: give mean_up_s and mean_down_s")
        edges = [edge for window in self.windows for edge in window]
        if any(later <= earlier for earlier, later in pairwise(edges)):
            raise ValueError("windows must be (begin_s, end_s) in rising order and must not touch")
        return self


class _LinkConfig(Frozen):
    """round_trip_s of an empty message, half of it each way; loss of a packet; slot_s of block fading."""

    round_trip_s: NonNegativeFloat = 0.01
    loss: Loss = 0.0
    slot_s: Slot = 0.01
    outages: OutageConfig = OutageConfig()


class ConstantConfig(_LinkConfig):
    """The same rate for ever; `snr_db` is only reported, and sets the noise on symbols."""

    kind: Literal["constant"] = "constant"
    rate_bps: PositiveFloat
    snr_db: Decibel = 20.0
    bandwidth_hz: PositiveFloat = 1e6
    slot_s: Slot = 1.0


class _ShannonConfig(_LinkConfig):
    """Rate = rate_scale · bandwidth_hz · log2(1 + SNR / gap)."""

    bandwidth_hz: PositiveFloat = 1e6
    gap_db: NonNegativeFloat = 3.0
    rate_scale: PositiveFloat = 1.0


class _MeanSnrConfig(_ShannonConfig):
    """mean_snr_db over time; each device's own mean lies around it with deviation `shadowing_db`."""

    mean_snr_db: Decibel = 15.0
    shadowing_db: Spread = 0.0


class AwgnConfig(_MeanSnrConfig):
    """Constant SNR, Shannon's rate with the gap, white noise on symbols."""

    kind: Literal["awgn"] = "awgn"
    slot_s: Slot = 1.0


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
    period_s    of the rows, where the file has no `time_column`; None: 1, unless a column looks like times
    """

    kind: Literal["snr_trace"] = "snr_trace"
    path: str
    trace: str | None = None
    column: str = "snr_db"
    time_column: str = TIME_COLUMN
    name_column: str = NAME_COLUMN
    period_s: PositiveFloat | None = None
    start_s: NonNegativeFloat | None = 0.0
    offset_db: Decibel = 0.0
    interpolate: bool = True
    slot_s: Slot = 0.1


LinkConfig = Annotated[
    ConstantConfig | AwgnConfig | RayleighConfig | RicianConfig | GilbertElliottConfig | SnrTraceConfig,
    Field(discriminator="kind"),
]
