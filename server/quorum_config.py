"""Configuration of a coordinator, `splitpoint serve --quorum FILE`: who votes, where they are, and when they stop."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..config_errors import first_problem
from ..errors import ConfigError, UsageError
from ..options import host_port
from ..policies.quorum import QuorumRule
from ..protos.client import Tls
from ..yaml_file import read_yaml

__all__ = ["LearnerPlace", "LearnerTls", "QuorumConfig", "load_quorum"]


class LearnerPlace(BaseModel):
    """One learner of the quorum, and where it runs.

    model      its name; in this process also a learner's file
    address    "host:port" of its server; empty: in the coordinator's process
    on_device  it runs on the devices and votes by the exit state of a request; it is never asked
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)
    address: str = ""
    on_device: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.on_device and self.address:
            raise ValueError("a learner on the devices has no address")
        if self.address:
            try:
                host_port(self.address)  # without a port it would be sought at 443
            except UsageError as error:
                raise ValueError(f"address: {error}") from None
        return self


class LearnerTls(BaseModel):
    """TLS to the learners' servers; PEM files. Without `root` the system's certificates are trusted.

    certificate, key  prove the coordinator to servers that ask
    server_name       the name to expect in their certificates where it differs from the address
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def tls(self) -> Tls:
        return Tls(self.root, self.certificate, self.key, self.server_name)


class QuorumConfig(QuorumRule):
    """The learners, and beside the fields of the rule they are heard by (SQUAD, arXiv 2601.22711):

    learners    at least one that can be asked; every model once
    model       the devices' network: whose requests are taken; empty: the learner on the devices, else the first
    parallel    ask all at once and cancel what is not needed; else one after another
    order       who is asked first: the one expected to answer soonest, or as listed
    patience_s  a learner that says nothing for so long is gone for this request, and suspected
    probe_s     how often a server's health is asked; a suspected one is taken back when it serves
    tls         to the learners' servers; none: plain text
    """

    learners: tuple[LearnerPlace, ...] = Field(min_length=1)
    model: str = ""
    parallel: bool = False
    order: Literal["cost", "listed"] = "cost"
    patience_s: float = Field(0.2, gt=0.0, allow_inf_nan=False)
    probe_s: float = Field(0.25, gt=0.0, allow_inf_nan=False)
    tls: LearnerTls | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        models = [place.model for place in self.learners]
        for model in models:
            if models.count(model) > 1:
                raise ValueError(f"learners: '{model}' is listed twice; a network has one vote")
        if sum(place.on_device for place in self.learners) > 1:
            raise ValueError("learners: at most one runs on the devices")
        if all(place.on_device for place in self.learners):
            raise ValueError("learners: at least one must run on a server")
        if self.model and any(place.on_device and place.model != self.model for place in self.learners):
            raise ValueError(f"model: the learner on the devices is another than '{self.model}'")
        return self

    @property
    def device_model(self) -> str:
        """Name or file of the network that the devices run."""
        own = [place.model for place in self.learners if place.on_device]
        return self.model or (own or [self.learners[0].model])[0]


def load_quorum(path: Path | str) -> QuorumConfig:
    """Read YAML or JSON; files of learners are looked for beside it. ConfigError, in one line, for what is wrong."""
    path = Path(path)
    data = read_yaml(path, "the quorum file")
    try:
        config = QuorumConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error, QuorumConfig.model_json_schema())}") from None
    places = tuple(
        place if place.address else place.model_copy(update={"model": _beside(place.model, path.parent)})
        for place in config.learners
    )
    return config.model_copy(update={"learners": places, "model": _beside(config.model, path.parent)})


def _beside(model: str, folder: Path) -> str:
    file = folder / model
    return str(file) if model.endswith(".safetensors") and file.is_file() else model
