"""Scenario files: one YAML file says everything about a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..channel.config import ChannelConfig, FifoConfig, LinkConfig, MediumConfig, SnrReportConfig
from ..errors import ConfigError, UsageError, did_you_mean
from ..policies.decision import NEVER, Decision
from ..policies.rules import Power, UtilityWeights
from .arrivals import ArrivalsConfig, Poisson

__all__ = [
    "BUILT_IN",
    "DecisionConfig",
    "Fault",
    "PolicyConfig",
    "Scenario",
    "StaticPolicy",
    "built_in_scenarios",
    "load_scenario",
    "scenario_schema",
]

BUILT_IN = Path(__file__).resolve().parent.parent / "scenarios"


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Config):
    """Where the inputs come from."""

    name: str = Field("clutter", description="a named set, a parquet file or an image folder")
    split: str = Field("evaluation", description="for named sets: which split")


class PowerConfig(_Config):
    """What a device draws, in watts."""

    cpu_w: float = Field(2.5, ge=0)
    tx_w: float = Field(1.3, ge=0)
    rx_w: float = Field(0.9, ge=0)
    idle_w: float = Field(0.3, ge=0)

    def power(self) -> Power:
        return Power(self.cpu_w, self.tx_w, self.rx_w, self.idle_w)


class RadioConfig(_Config):
    """The radio: every device's link, a medium for each direction, the modem's report."""

    link: LinkConfig
    uplink: MediumConfig = FifoConfig()
    downlink: MediumConfig = FifoConfig()
    report: SnrReportConfig = SnrReportConfig()


class DeviceGroup(_Config):
    """Equal devices with links of their own of one kind."""

    count: int = Field(4, ge=1)
    macs_per_s: float = Field(1.0e9, gt=0, description="how fast a device computes")
    overhead_s: float = Field(0.002, ge=0, description="per offloaded request: codec and RPC")
    slack_s: float = Field(0.01, ge=0, description="kept in reserve before the deadline")
    battery_j: float | None = Field(None, gt=0, description="none: on mains")
    power: PowerConfig = PowerConfig()
    arrivals: ArrivalsConfig = Poisson(rate_hz=5.0)
    link: LinkConfig | None = Field(None, description="where it differs from the scenario's channel")


class ServerConfig(_Config):
    """How fast the server is and how it batches."""

    macs_per_s: float = Field(2.0e10, gt=0)
    base_s: float = Field(0.001, ge=0, description="per segment of a batch, whatever its size")
    max_batch: int = Field(16, ge=1)
    max_pending: int = Field(256, ge=1, description="requests beyond this are refused")


class UtilityConfig(_Config):
    """Constants of the utility; the weights have no unit."""

    latency: float = Field(0.2, ge=0)
    energy: float = Field(0.1, ge=0)
    airtime: float = Field(0.1, ge=0)
    late: float = Field(0.5, ge=0)
    energy_ref_j: float = Field(0.1, gt=0)
    airtime_ref_s: float = Field(0.05, gt=0)


class DecisionConfig(_Config):
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


class StaticPolicy(_Config):
    """Always the same Decision."""

    kind: Literal["static"] = "static"
    name: str
    decision: DecisionConfig


class GreedyPolicy(_Config):
    """Best predicted utility under the estimated rate; candidates are the calibration profile's grid."""

    kind: Literal["greedy"] = "greedy"
    name: str = "greedy"
    exit_margins: tuple[float, ...] = (0.5, 0.7, 0.85, 0.95, NEVER)
    explore_after: int = Field(4, ge=1, description="local answers in a row before the link is tried again")


class ReplayPolicy(_Config):
    """The Decisions of one policy of an earlier run."""

    kind: Literal["replay"] = "replay"
    name: str = "replay"
    path: Path = Field(description="requests.parquet of the earlier run")
    policy: str | None = Field(None, description="which policy of that run, where it had several")


PolicyConfig = Annotated[StaticPolicy | GreedyPolicy | ReplayPolicy, Field(discriminator="kind")]


class Fault(_Config):
    """Something that happens to the server during the run of each policy."""

    kind: Literal["kill", "freeze", "drain"]
    at_s: float = Field(ge=0)
    for_s: float = Field(gt=0, description="until it is started again or goes on")


class Scenario(_Config):
    """Everything about a run but the engine."""

    name: str
    description: str = ""
    model: str = Field("clutter", description="a named model or the path of its safetensors")
    profiles: dict[Literal["calibration", "evaluation"], Path] = Field(
        default_factory=dict, description="paths, where they do not lie beside the model"
    )
    data: DataConfig = DataConfig()
    seed: int = Field(0, ge=0)
    requests: int = Field(400, ge=1, description="per policy, over all devices")
    deadline_s: float = Field(gt=0, description="relative, from a request's arrival")
    coder: Literal["packed", "ans"] = "packed"
    devices: tuple[DeviceGroup, ...] = Field(min_length=1)
    channel: RadioConfig
    coherence_s: float = Field(0.5, gt=0, description="how long a report of the link is believed")
    probe_s: float = Field(0.25, gt=0, description="how often a device looks whether a lost link is back")
    server: ServerConfig = ServerConfig()
    utility: UtilityConfig = UtilityConfig()
    policies: tuple[PolicyConfig, ...] = Field(min_length=1)
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Scenario:
        names = [policy.name for policy in self.policies]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two policies are named '{name}'")
        return self

    def device_groups(self) -> list[DeviceGroup]:
        """The group of every device, by device index."""
        return [group for group in self.devices for _ in range(group.count)]

    def channel_config(self) -> ChannelConfig:
        """The radio with the link of every device, by device index."""
        radio = self.channel
        links = tuple(group.link or radio.link for group in self.device_groups())
        return ChannelConfig(links=links, uplink=radio.uplink, downlink=radio.downlink, report=radio.report)

    def device_requests(self) -> list[int]:
        """How many of the requests each device issues."""
        count = len(self.device_groups())
        return [self.requests // count + (i < self.requests % count) for i in range(count)]

    def weights(self) -> UtilityWeights:
        return UtilityWeights(deadline_s=self.deadline_s, **self.utility.model_dump())

    def policy(self, name: str) -> PolicyConfig:
        """The policy of this name. Raises UsageError naming the nearest."""
        for policy in self.policies:
            if policy.name == name:
                return policy
        raise UsageError(f"unknown policy '{name}': {did_you_mean(name, (p.name for p in self.policies))}")


def built_in_scenarios() -> dict[str, str]:
    """Names and descriptions of the scenarios that come with splitpoint."""
    return {path.stem: load_scenario(path.stem).description for path in sorted(BUILT_IN.glob("*.yaml"))}


def scenario_schema() -> dict[str, Any]:
    """JSON Schema of a scenario file, for editors."""
    return Scenario.model_json_schema()


def load_scenario(name_or_path: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Read and check a scenario; `changes` replaces top-level fields.

    Raises ConfigError with one line that names the field and, for unknown keys, the nearest valid one.
    """
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        built_in = BUILT_IN / f"{name_or_path}.yaml"
        if not built_in.exists():
            known = (p.stem for p in BUILT_IN.glob("*.yaml"))
            raise UsageError(f"unknown scenario '{name_or_path}': {did_you_mean(str(name_or_path), known)}")
        path = built_in
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read scenario {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of fields, not {type(data).__name__}")
    data = {"name": path.stem, **data, **(changes or {})}
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys_at(scenario_schema(), problem["loc"][:-1])
        return f"unknown key '{place}': {did_you_mean(str(problem['loc'][-1]), known)}"
    message = problem["msg"].removeprefix("Value error, ")
    given = (
        "" if problem["type"] == "missing" else f" (given: {json.dumps(problem['input'], default=str)[:60]})"
    )
    return f"{place}: {message}{given}" if place else f"{message}"


def _keys_at(schema: dict[str, Any], place: tuple[int | str, ...]) -> list[str]:
    """Valid keys at a place of the schema; the tags of unions count as steps of the way."""
    nodes = [schema]
    for step in place:
        following: list[dict[str, Any]] = []
        for node in _open(schema, nodes):
            if isinstance(step, int):
                following += [node[key] for key in ("items",) if isinstance(node.get(key), dict)]
            elif step in node.get("properties", {}):
                following.append(node["properties"][step])
            elif node.get("properties", {}).get("kind", {}).get("const") == step:
                following.append(node)
        nodes = following or nodes
    return [key for node in _open(schema, nodes) for key in node.get("properties", {})]


def _open(schema: dict[str, Any], nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Follow references and unions down to nodes that say what they hold."""
    opened: list[dict[str, Any]] = []
    for node in nodes:
        if "$ref" in node:
            opened += _open(schema, [schema["$defs"][node["$ref"].rsplit("/", 1)[1]]])
        elif branches := node.get("oneOf") or node.get("anyOf") or node.get("allOf"):
            opened += _open(schema, branches)
        else:
            opened.append(node)
    return opened
