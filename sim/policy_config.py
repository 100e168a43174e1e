"""The policies of a scenario file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..errors import UsageError
from ..policies.decision import NEVER, Decision
from .sections import Section

__all__ = ["DecisionConfig", "GreedyPolicy", "PolicyConfig", "ReplayPolicy", "StaticPolicy"]


class DecisionConfig(Section):
    """A Decision as a scenario writes it."""

    split: int = Field(ge=0)
    keep: float = 1.0
    dims: int = 0
    bits: int = 8
    symbols: float = 0.0
    exit_margin: float = NEVER
    offload_slope: float = -NEVER

    @model_validator(mode="after")
    def _valid(self) -> DecisionConfig:
        try:
            self.decision()
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    def decision(self) -> Decision:
        return Decision(**self.model_dump())


class StaticPolicy(Section):
    """Always the same Decision."""

    kind: Literal["static"] = "static"
    name: str
    decision: DecisionConfig


class GreedyPolicy(Section):
    """Best predicted utility under the estimated rate; candidates are the calibration profile's grid."""

    kind: Literal["greedy"] = "greedy"
    name: str = "greedy"
    exit_margins: tuple[float, ...] = (0.5, 0.7, 0.85, 0.95, NEVER)
    explore_after: int = Field(4, ge=1, description="local answers in a row before the link is tried again")


class ReplayPolicy(Section):
    """The Decisions of one policy of an earlier run."""

    kind: Literal["replay"] = "replay"
    name: str = "replay"
    path: Path = Field(description="requests.parquet of the earlier run")
    policy: str | None = Field(None, description="which policy of that run, where it had several")


PolicyConfig = Annotated[StaticPolicy | GreedyPolicy | ReplayPolicy, Field(discriminator="kind")]
