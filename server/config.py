"""Configuration of `splitpoint serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..policies.service_time import Pace
from ..protos.options import MAX_MESSAGE_BYTES
from .quorum_config import QuorumConfig

__all__ = ["PaceConfig", "ServerConfig", "TrainingConfig"]


class PaceConfig(BaseModel):
    """Speed of a simulated server: base_s seconds for each segment and its MACs over macs_per_s."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_s: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    macs_per_s: float = Field(gt=0.0)

    def pace(self) -> Pace:
        return Pace(self.base_s, self.macs_per_s)


class TrainingConfig(BaseModel):
    """Limits of split learning.

    folder        each session's checkpoints and weights go to a folder of its own in here
    max_sessions  in training at once; one more is refused unless another was idle for idle_s
    max_batch     rows of an activation
    max_kept      sessions whose files are kept; one more is refused
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Path("runs/split-learning-server")
    max_sessions: int = Field(2, ge=1)
    max_batch: int = Field(512, ge=2)
    max_kept: int = Field(64, ge=1)
    idle_s: float = Field(900.0, ge=0.0, allow_inf_nan=False)


class ServerConfig(BaseModel):
    """What the server serves, where, and its limits.

    model        name of a built-in network or path of a model file; empty: clutter, unless it serves learners only
    learners     names or files of the learners whose gates RunGates runs here
    quorum       learners that answer requests instead of one model, here or on other servers
    gate_log     JSON lines of gates run and asks cancelled, for measurements; appended to
    host, port   port 0 takes a free one
    threads      torch's threads
    max_batch    samples in one batch
    max_pending  requests waiting or in work; one more is refused
    max_message_bytes  of a request or reply, as Describe tells it
    grace_s      longest wait for clients to end their streams at a shutdown
    pace         speed of a simulated server; None: as fast as this machine is
    certificate, key  PEM files of the server; TLS where given
    client_root  PEM file; clients must then show a certificate that it signed
    training     limits of split learning; None refuses TrainStep
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = ""
    learners: tuple[str, ...] = ()
    quorum: QuorumConfig | None = None
    gate_log: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(50051, ge=0, le=65535)
    threads: int = Field(1, ge=1)
    max_batch: int = Field(16, ge=1)
    max_pending: int = Field(256, ge=1)
    max_message_bytes: int = Field(MAX_MESSAGE_BYTES, ge=1024)
    grace_s: float = Field(3.0, ge=0.0, allow_inf_nan=False)
    pace: PaceConfig | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_root: Path | None = None
    training: TrainingConfig | None = None

    @property
    def network(self) -> str:
        """The model whose tail answers requests; empty where there is none."""
        return self.model or ("" if self.learners or self.quorum else "clutter")

    @property
    def devices_network(self) -> str:
        """The model whose requests are taken, by a tail or by a quorum; empty for learners alone."""
        return self.quorum.device_model if self.quorum else self.network

    @model_validator(mode="after")
    def _one_answer(self) -> Self:
        if self.quorum is not None and self.model:
            raise ValueError("quorum and model exclude each other: one of them answers the requests")
        if self.training is not None and not self.network:
            raise ValueError("training needs a model")
        return self

    @model_validator(mode="after")
    def _tls(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are given together")
        if self.client_root is not None and self.certificate is None:
            raise ValueError("client_root needs certificate and key")
        return self
