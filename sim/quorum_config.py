"""The quorum section of a scenario: which learners answer, where they run, and when they stop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..policies.quorum import QuorumRule
from .sections import Section, ServerConfig

__all__ = ["DEVICE", "LearnerConfig", "QuorumConfig"]

DEVICE = "device"
_TAKEN = {"server", "channel"}
"""Of a live run's other processes, whose logs are called so."""


class LearnerConfig(Section):
    """One learner and the process that it runs in."""

    name: str = Field(description="a learner of the pool; on the device, the scenario's model")
    place: str = Field(
        pattern=r"^\w[\w.-]*$", description="'device', or the name of a server process; equal names share one"
    )


class QuorumConfig(Section):
    """Several learners in the one server's place; a coordinator asks them and stops when a quorum stands."""

    pool: str = Field("cifar10", description="whose learners: a named pool, or the folder of one's own")
    learners: tuple[LearnerConfig, ...] = Field(min_length=1)
    alpha: float = Field(0.05, gt=0, le=1, description="a quorum ends the request where p is below this")
    compare: Literal["runner_up", "others", "dissenters"] = "runner_up"
    statistic: Literal["welch", "confidence"] = Field(
        "welch", description="what decides: Welch's test, or the majority's mean confidence alone"
    )
    confidence: float = Field(
        0.9, ge=0, le=1, description="where mean confidence decides: at least this much"
    )
    parallel: bool = Field(False, description="ask all learners at once, and cancel what is not needed")
    order: Literal["cost", "listed"] = "cost"
    patience_s: float = Field(0.1, gt=0, description="a learner that says nothing for so long counts as gone")
    probe_s: float = Field(0.25, gt=0, description="how often a learner that is gone is looked for")
    hop_s: float = Field(
        0.001, ge=0, description="one way between coordinator and learner, virtual time only"
    )
    server: ServerConfig = Field(ServerConfig(), description="how fast each learner's process is")

    @model_validator(mode="after")
    def _places(self) -> QuorumConfig:
        names = [learner.name for learner in self.learners]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two learners are named '{name}'")
        if taken := _TAKEN.intersection(learner.place for learner in self.learners):
            raise ValueError(f"a process of learners cannot be called '{min(taken)}': another one is")
        if sum(learner.place == DEVICE for learner in self.learners) > 1:
            raise ValueError("one learner at most runs on the device: the scenario's model")
        if all(learner.place == DEVICE for learner in self.learners):
            raise ValueError("at least one learner must run on a server")
        return self

    @property
    def on_device(self) -> int | None:
        """Index of the learner on the device, None where there is none."""
        places = [learner.place for learner in self.learners]
        return places.index(DEVICE) if DEVICE in places else None

    @property
    def asked(self) -> list[int]:
        """Indices of the learners that can be asked."""
        return [index for index, learner in enumerate(self.learners) if learner.place != DEVICE]

    @property
    def processes(self) -> dict[str, list[int]]:
        """The learners of each server process, by its name."""
        found: dict[str, list[int]] = {}
        for index in self.asked:
            found.setdefault(self.learners[index].place, []).append(index)
        return found

    def rule(self) -> QuorumRule:
        return QuorumRule(
            alpha=self.alpha, compare=self.compare, statistic=self.statistic, confidence=self.confidence
        )
