"""The policies of a scenario file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..errors import UsageError
from ..policies.candidates import EXIT_MARGINS
from ..policies.decision import NEVER, Decision
from ..policies.virtual_queue import DEBT
from .sections import Section

__all__ = [
    "BanditPolicy",
    "BestStaticPolicy",
    "CustomPolicy",
    "DecisionConfig",
    "GreedyPolicy",
    "LyapunovPolicy",
    "NeurosurgeonPolicy",
    "OraclePolicy",
    "PolicyConfig",
    "RandomPolicy",
    "ReplayPolicy",
    "StaticPolicy",
    "TrainedPolicy",
]

EXPLORE_AFTER: Any = Field(
    None,
    ge=1,
    description="local answers in a row before a link is tried again, twice as many after each vain try; none: 4, and "
    "never where the modem measures by itself",
)

ExitMargins = Annotated[tuple[float, ...], Field(min_length=1)]
Price = Annotated[float, Field(ge=0)]


class DecisionConfig(Section):
    """A Decision as a scenario writes it."""

    split: int = Field(ge=0)
    keep: float = 1.0
    dims: int = 0
    bits: int = 8
    symbols: float = 0.0
    exit_margin: float = NEVER
    offload_slope: float = -NEVER
    refine_bits: int = 0
    refine_keep: float = 0.0
    refine_margin: float = 0.0
    merge: float = 1.0

    @model_validator(mode="after")
    def _valid(self) -> DecisionConfig:
        try:
            self.decision()
        except UsageError as error:
            raise ValueError(str(error)) from None
        if self.refine_margin and not (self.refine_bits or self.refine_keep):
            raise ValueError("Decision.refine_margin without refine_bits or refine_keep: nothing is refined")
        return self

    def decision(self) -> Decision:
        return Decision(**self.model_dump())

    @classmethod
    def of(cls, decision: Decision) -> DecisionConfig:
        """The section that stands for this Decision."""
        return cls(**{name: getattr(decision, name) for name in cls.model_fields})


class StaticPolicy(Section):
    """Always the same Decision."""

    kind: Literal["static"] = "static"
    name: str
    decision: DecisionConfig


class BestStaticPolicy(Section):
    """The one Decision that does best in this scenario on calibration data, found by simulation."""

    kind: Literal["best_static"] = "best_static"
    name: str = "best-static"
    exit_margins: ExitMargins = EXIT_MARGINS
    requests: int = Field(400, ge=1, description="per candidate, over all devices")


class RandomPolicy(Section):
    """Any Decision of the grid, each as likely."""

    kind: Literal["random"] = "random"
    name: str = "random"
    exit_margins: ExitMargins = EXIT_MARGINS


class GreedyPolicy(Section):
    """Best predicted utility under the estimated rate; candidates are the calibration profile's grid."""

    kind: Literal["greedy"] = "greedy"
    name: str = "greedy"
    exit_margins: ExitMargins = EXIT_MARGINS
    explore_after: int | None = EXPLORE_AFTER


class NeurosurgeonPolicy(Section):
    """The cut with the least predicted latency; nothing compressed, no early exits."""

    kind: Literal["neurosurgeon"] = "neurosurgeon"
    name: str = "neurosurgeon"
    explore_after: int | None = EXPLORE_AFTER


class LyapunovPolicy(Section):
    """Drift-plus-penalty control with a virtual queue for each of the scenario's budgets."""

    kind: Literal["lyapunov"] = "lyapunov"
    name: str = "lyapunov"
    exit_margins: ExitMargins = EXIT_MARGINS
    explore_after: int | None = EXPLORE_AFTER
    v: float = Field(200.0, gt=0, description="weight of utility against backlog")
    step: float = Field(1.0, gt=0, description="mu: how fast a virtual queue grows")
    debt: float = Field(DEBT, ge=0, description="kappa: more pressure while a path is over budget")
    prices: tuple[Price, ...] | None = Field(
        None, description="Z_0 / V of each budget; none: the best constant ones on calibration data"
    )


class BanditPolicy(Section):
    """A linear contextual bandit that learns where the predictions are wrong."""

    kind: Literal["bandit"] = "bandit"
    name: str = "bandit"
    rule: Literal["ucb", "thompson"] = "thompson"
    exit_margins: ExitMargins = EXIT_MARGINS
    explore_after: int | None = EXPLORE_AFTER
    width: float = Field(0.1, ge=0, description="standard deviations that exploration is worth")
    ridge: float = Field(4.0, gt=0, description="weight of the predictions, in requests")
    memory: float = Field(
        0.995, gt=0, le=1, description="what is left of a request's weight after the next one"
    )


class OraclePolicy(Section):
    """Clairvoyant: knows the channel's path and each sample's margins and predictions. Virtual engines only."""

    kind: Literal["oracle"] = "oracle"
    name: str = "oracle"
    labels: bool = Field(False, description="know the labels too: the label oracle")
    exit_margins: ExitMargins = EXIT_MARGINS
    prices: tuple[tuple[Price, ...], ...] | None = Field(
        None,
        description="for each device, utility per unit of each budget; none: the best constant ones in hindsight",
    )


class ReplayPolicy(Section):
    """The Decisions of one policy of an earlier run."""

    kind: Literal["replay"] = "replay"
    name: str = "replay"
    path: Path = Field(description="requests.parquet of the earlier run")
    policy: str | None = Field(None, description="which policy of that run, where it had several")


class TrainedPolicy(Section):
    """A policy that `splitpoint policy train` made; budgets are kept by virtual queues, as Lyapunov control does."""

    kind: Literal["trained"] = "trained"
    name: str = "trained"
    path: Path = Field(description="file that `splitpoint policy train` wrote")
    v: float = Field(200.0, gt=0, description="weight of utility against backlog")
    step: float = Field(1.0, gt=0, description="mu: how fast a virtual queue grows")
    debt: float = Field(DEBT, ge=0, description="kappa: more pressure while a path is over budget")
    prices: tuple[Price, ...] | None = Field(
        None, description="Z_0 / V of each budget; none: the best constant ones on calibration data"
    )


class CustomPolicy(Section):
    """A policy of your own: a Python file, and the name in it of a class or function that makes the policy."""

    kind: Literal["custom"] = "custom"
    name: str
    path: Path = Field(description="the Python file; it runs with your rights, so trust it")
    factory: str = Field("make", description="called as factory(deployment, profile, **options)")
    options: dict[str, Any] = Field(default_factory=dict)


PolicyConfig = Annotated[
    StaticPolicy
    | BestStaticPolicy
    | RandomPolicy
    | GreedyPolicy
    | NeurosurgeonPolicy
    | LyapunovPolicy
    | BanditPolicy
    | OraclePolicy
    | ReplayPolicy
    | TrainedPolicy
    | CustomPolicy,
    Field(discriminator="kind"),
]
