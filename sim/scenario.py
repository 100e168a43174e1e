"""Scenario files: one YAML file says everything about a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from ..channel.config import ChannelConfig
from ..codec.image import LOSSLESS, parse_image_format
from ..config_errors import first_problem
from ..errors import ConfigError, DataError, UsageError, did_you_mean
from ..models.data import NAMED
from ..policies.rules import UtilityWeights
from ..yaml_file import read_yaml
from .policy_config import PolicyConfig
from .quorum_config import QuorumConfig
from .sections import (
    BudgetsConfig,
    DataConfig,
    DeviceGroup,
    Fault,
    RadioConfig,
    Section,
    ServerConfig,
    UtilityConfig,
)

__all__ = ["BUILT_IN", "Scenario", "built_in_scenarios", "load_scenario", "scenario_schema"]

BUILT_IN = Path(__file__).resolve().parent.parent / "scenarios"


class Scenario(Section):
    """Everything about a run but the engine."""

    name: str
    description: str = ""
    model: str = Field("clutter", description="a named model or the path of its safetensors")
    profiles: dict[Literal["calibration", "evaluation"], Path] = Field(
        default_factory=dict, description="paths, where they do not lie beside the model"
    )
    data: DataConfig = DataConfig()
    seed: int = Field(0, ge=0)
    requests: int = Field(400, ge=1, le=100_000_000, description="per policy, over all devices")
    deadline_s: float = Field(gt=0, description="relative, from a request's arrival")
    coder: Literal["packed", "ans"] = "packed"
    image_format: str = Field(
        LOSSLESS, description="how raw inputs are sent: png, webp:QUALITY or jpeg:QUALITY"
    )
    devices: tuple[DeviceGroup, ...] = Field(min_length=1)
    channel: RadioConfig
    coherence_s: float = Field(0.5, gt=0, description="how long a report of the link is believed")
    probe_s: float = Field(0.25, gt=0, description="how often a device looks whether a lost link is back")
    server: ServerConfig = ServerConfig()
    quorum: QuorumConfig | None = Field(None, description="learners that answer instead of the one server")
    utility: UtilityConfig = UtilityConfig()
    budgets: BudgetsConfig = BudgetsConfig()
    policies: tuple[PolicyConfig, ...] = Field(min_length=1)
    faults: tuple[Fault, ...] = ()
    training: dict[str, Any] = Field(
        default_factory=dict,
        description="top-level fields that differ while policies are trained or tuned, other traces, say",
    )

    @model_validator(mode="after")
    def _training_is_valid(self) -> Scenario:
        if self.training:
            try:
                self.for_training({})
            except ValidationError as error:
                raise ValueError(f"training: {first_problem(error, scenario_schema())}") from None
        return self

    @model_validator(mode="after")
    def _image_format_is_known(self) -> Scenario:
        try:
            parse_image_format(self.image_format)
        except DataError as error:
            raise ValueError(str(error)) from None
        if self.quorum is not None and self.image_format != LOSSLESS:
            raise ValueError("image_format: what a quorum's learners say was measured on lossless images")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Scenario:
        names = [policy.name for policy in self.policies]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two policies are named '{name}'")
        return self

    @model_validator(mode="after")
    def _faults_have_a_process(self) -> Scenario:
        known = list(self.quorum.processes) if self.quorum else []
        for fault in self.faults:
            if fault.process and fault.process not in known:
                raise ValueError(
                    f"a fault of process '{fault.process}', which is none of the quorum's: {known}"
                )
        return self

    def for_training(self, changes: Mapping[str, Any]) -> Scenario:
        """The scenario as policies are trained on it; `changes` replaces top-level fields."""
        return Scenario.model_validate(self.model_dump() | self.training | {"training": {}} | dict(changes))

    def changes_s(self) -> list[float]:
        """Times at which something changes for all devices: faults and listed outages come and go, inputs drift."""
        times = [time_s for fault in self.faults for time_s in (fault.at_s, fault.at_s + fault.for_s)]
        times += [edge for window in self.channel.link.outages.windows for edge in window]
        times += [at_s for at_s, _ in self.data.hard_share if at_s > 0.0]
        return sorted(set(times))

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
    return {path.stem: load_scenario(path).description for path in sorted(BUILT_IN.glob("*.yaml"))}


def scenario_schema() -> dict[str, Any]:
    """JSON Schema of a scenario file, for editors."""
    return Scenario.model_json_schema()


def load_scenario(name_or_path: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Read and check a scenario; `changes` replaces top-level fields.

    Raises ConfigError with one line that names the field and, for unknown keys, the nearest valid one.
    """
    path = Path(name_or_path)
    if not path.suffix and (not path.exists() or path.is_dir()):  # a folder of that name is no scenario
        built_in = BUILT_IN / f"{name_or_path}.yaml"
        if not built_in.exists():
            known = (p.stem for p in BUILT_IN.glob("*.yaml"))
            raise UsageError(f"unknown scenario '{name_or_path}': {did_you_mean(str(name_or_path), known)}")
        path = built_in
    data = read_yaml(path, "scenario")
    try:
        data = {
            "name": path.stem,
            **_inputs_beside(_beside(data, path.parent), path.parent),
            **(changes or {}),
        }
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error, scenario_schema())}") from None


def _inputs_beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """An own model, data or pool is meant from the file's folder too; what is a plain name is a built-in one."""

    def meant(value: Any, elsewhere: Callable[[Path], bool] = lambda path: False) -> Any:
        if not isinstance(value, str) or value in NAMED:
            return value
        path = Path(value)
        own = len(path.parts) > 1 or path.suffix or (folder / path).exists() or elsewhere(path)
        return str(folder / path) if own else value

    found = dict(data)
    if "model" in found:
        found["model"] = meant(found["model"])
    for section, name in (("data", "name"), ("quorum", "pool")):
        if isinstance(fields := found.get(section), dict) and name in fields:
            # What lies under that name in the working folder only is not taken for it.
            found[section] = fields | {name: meant(fields[name], lambda path: path.exists())}
    if isinstance(training := found.get("training"), dict):
        found["training"] = _inputs_beside(training, folder)
    return found


def _beside(node: Any, folder: Path, place: str = "") -> Any:
    """Relative paths in a scenario file are meant from the file's folder. ConfigError for a trace that is missing.

    The files of policies are looked for when they are used: they may be the fruit of a run that is still to come.
    """
    if isinstance(node, list):
        return [_beside(value, folder, f"{place}.{index}") for index, value in enumerate(node)]
    if not isinstance(node, dict):
        return node
    found = {
        key: _beside(value, folder, f"{place}.{key}" if place else str(key)) for key, value in node.items()
    }
    section = place.removeprefix("training.")
    for key in found if section == "profiles" else ("path",):
        if isinstance(path := found.get(key), str):
            found[key] = str(folder / path)
            if not section.startswith(("policies", "profiles")) and not (folder / path).is_file():
                raise ConfigError(f"{place}.{key}: there is no file {folder / path}")
    return found
