"""From a scenario to the things that run: model, profiles, inputs, policies. The same for every engine."""

from __future__ import annotations

import logging
import math
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from ..channel.report import Modem
from ..codec.entropy import tables_crc
from ..device.agent import Agent
from ..device.session import Session
from ..errors import ConfigError, DataError, UsageError
from ..models.card import ModelCard, read_card
from ..models.pool_profile import PoolProfile, pool_path
from ..models.profile import Profile
from ..models.store import codec_arrays, resolve
from ..policies.arrivals import arrival_times
from ..policies.belief import EXPLORE_AFTER
from ..policies.decision import Decision
from ..policies.deployment import Deployment
from ..policies.guard import GuardedPolicy
from ..policies.inputs import hardest_first, input_samples
from ..policies.oracle import Sight
from ..policies.service_time import Pace, block_times, times_at_keep
from .make_policies import PolicyMaker
from .policy_config import CustomPolicy, PolicyConfig, StaticPolicy
from .quorum_config import DEVICE
from .quorum_profile import check_quorum, quorum_profile
from .scenario import Scenario
from .sections import DeviceGroup
from .symbol_links import check_symbols

__all__ = ["Setup"]

logger = logging.getLogger(__name__)


class Setup:
    """Everything about one scenario that policies and engines share.

    Raises ConfigError, DataError or UsageError, each naming the field or file.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.model_path: Path = resolve(scenario.model)
        self.card: ModelCard = read_card(self.model_path)
        self.groups: list[DeviceGroup] = scenario.device_groups()
        self._policies = PolicyMaker(self)
        self._agents: dict[tuple[float, float], Agent] = {}
        self._all_local = Decision(self.card.depth)
        self._failing: set[str] = set()
        for policy in scenario.policies:
            if isinstance(policy, StaticPolicy):
                try:
                    policy.decision.decision().check(self.card)
                except UsageError as error:
                    raise ConfigError(f"policy '{policy.name}': {error}") from None
        statics = {p.name: p.decision.decision() for p in scenario.policies if isinstance(p, StaticPolicy)}
        if scenario.quorum is not None:
            check_quorum(scenario.quorum, self.card, statics)
        if any(decision.symbols for decision in statics.values()):
            check_symbols(scenario, self.card, statics, codec_arrays(self.model_path))

    def profile_path(self, split: Literal["calibration", "evaluation"]) -> Path:
        """Where the profile lies: named in the scenario, or beside the model."""
        given = self.scenario.profiles.get(split)
        return given or self.model_path.with_name(f"{self.model_path.stem}.{split}.npz")

    def profile(self, split: Literal["calibration", "evaluation"]) -> Profile:
        """The profile of this split, checked to be of this model."""
        path = self.profile_path(split)
        if not path.exists():
            raise DataError(
                f"no {split} profile at {path}: measure it with "
                f"`splitpoint profile {self.scenario.model} --split {split} --data {self.scenario.data.name}`"
            )
        profile = Profile.load(path)
        if profile.card.id != self.card.id:
            raise DataError(f"{path} was measured for model {profile.card.id}, not for {self.card.id}")
        if profile.coder == "ans" and profile.tables_crc != tables_crc(codec_arrays(self.model_path)):
            raise DataError(
                f"{path} was measured with other code tables than {self.model_path} has: measure it anew"
            )
        quorum = self.scenario.quorum
        return profile if quorum is None else quorum_profile(profile, self.pool(split), quorum)

    def as_sent(self, split: Literal["calibration", "evaluation"]) -> Profile:
        """The profile of a split. UsageError unless it was measured as the scenario sends."""
        profile = self.evaluation if split == "evaluation" else self.calibration
        profile.require(split, self.scenario.coder, self.scenario.image_format)
        return profile

    def pool(self, split: Literal["calibration", "evaluation"]) -> PoolProfile:
        """What the quorum's learners say of the samples of this split."""
        assert self.scenario.quorum is not None
        pool = PoolProfile.load(pool_path(self.scenario.quorum.pool, split))
        pool.require(split)
        return pool

    @cached_property
    def learner_files(self) -> list[str]:
        """Names or paths of the quorum's learners, in the scenario's order: a pool of one's own has them beside it."""
        quorum = self.scenario.quorum
        assert quorum is not None
        found = []
        for learner in quorum.learners:
            own = pool_path(quorum.pool, "evaluation").parent / f"{learner.name}.safetensors"
            on_device = learner.place == DEVICE
            found.append(str(self.model_path if on_device else own if own.is_file() else learner.name))
        return found

    @cached_property
    def learner_macs(self) -> list[list[int]]:
        """MACs of the quorum's learners, in the scenario's order, gate by gate."""
        assert self.scenario.quorum is not None
        pool = self.pool("calibration")
        return [pool.gate_macs[pool.learner(found.name)].tolist() for found in self.scenario.quorum.learners]

    @property
    def lookup(self) -> Profile:
        """Where the profile engine looks answers up: the evaluation profile, in tuning the calibration profile."""
        return self.as_sent("evaluation")

    @cached_property
    def calibration(self) -> Profile:
        return self.profile("calibration")

    @cached_property
    def evaluation(self) -> Profile:
        return self.profile("evaluation")

    def group_of(self, device: int) -> int:
        """The first device that is equal to this one: what they can share is made for that one."""
        return self.groups.index(self.groups[device])

    def for_tuning(self, seed: int, requests: int | None = None) -> Setup:
        """The same scenario on calibration data, with another seed: for what is chosen before a run."""
        changes = {"seed": seed} | ({} if requests is None else {"requests": requests})
        return _Tuning(self, self.scenario.for_training(changes))

    def tuned(self, config: PolicyConfig) -> PolicyConfig:
        """The policy with what is found by simulation on calibration data written out."""
        return self._policies.tuned(config)

    def inputs(self, samples: int, arrivals: list[list[float]]) -> list[list[int]]:
        """For every device the index of the sample behind each of its requests, given when they arrive."""
        share = self.scenario.data.hard_share
        if share and samples != len(self.lookup):
            raise DataError(
                f"data.hard_share needs a profile of the {samples} inputs, not of {len(self.lookup)}"
            )
        order = hardest_first(self.lookup) if share else None
        return [
            input_samples(self.scenario.seed, device, times, samples, share, order)
            for device, times in enumerate(arrivals)
        ]

    def arrivals(self) -> list[list[float]]:
        """For every device the times at which its requests arrive, in seconds."""
        return [
            arrival_times(group.arrivals, self.scenario.seed, device, count).tolist()
            for device, (group, count) in enumerate(
                zip(self.groups, self.scenario.device_requests(), strict=True)
            )
        ]

    def block_s(self, device: int) -> tuple[float, ...]:
        return self._agent(device).block_s

    def _agent(self, device: int) -> Agent:
        """Equal devices share theirs, for it holds nothing of any request."""
        group = self.groups[device]
        key = group.macs_per_s, group.slack_s
        agent = self._agents.get(key)
        if agent is None:
            block_s = block_times(self.card, group.macs_per_s)
            agent = Agent(self.card.exits, block_s, group.slack_s, partial(times_at_keep, self.card, block_s))
            self._agents[key] = agent
        return agent

    @property
    def explore_after(self) -> float:
        """Local answers in a row after which a policy tries a link of which nothing is heard."""
        return EXPLORE_AFTER if self.scenario.channel.report.every_s is None else math.inf

    def session(
        self,
        config: PolicyConfig,
        device: int,
        sight: Sight | None = None,
        modem: Modem | None = None,
    ) -> Session:
        """A fresh session of one device under one policy; sight: what virtual time shows to an oracle.

        modem: the device's; None: it reports with replies only.
        """
        group, scenario = self.groups[device], self.scenario
        policy = self._policies.make(config, device, sight)
        own = isinstance(config, CustomPolicy)
        guarded = GuardedPolicy(
            policy,
            self.card,
            self._all_local,
            # In virtual time our own policies are not looked at: equal runs must not depend on the machine's load.
            0.5 * scenario.deadline_s if own or sight is None else math.inf,
            watched=own,
            told=partial(self._failed, config.name),
        )
        guarded.reset(scenario.seed)
        return Session(
            self._agent(device),
            guarded,
            group.power.power(),
            deadline_s=scenario.deadline_s,
            coherence_s=scenario.coherence_s,
            battery_j=float("inf") if group.battery_j is None else group.battery_j,
            modem=modem,
        )

    def _failed(self, policy: str, what: str) -> None:
        """Of many devices that one policy fails on, the first is enough."""
        if policy not in self._failing:
            self._failing.add(policy)
            logger.warning("policy '%s' %s", policy, what)

    def deployment(self, device: int) -> Deployment:
        """What the policies of this device know beforehand."""
        group, server = self.groups[device], self.scenario.server
        return Deployment(
            self.block_s(device),
            group.overhead_s,
            group.slack_s,
            Pace(server.base_s, server.macs_per_s),
            group.power.power(),
            self.scenario.weights(),
        )


_SURROUNDINGS = {"model", "profiles", "devices", "server", "quorum", "utility", "deadline_s", "budgets"}
"""Fields that predictions follow from: where training changes one, nothing of them is shared."""


class _Tuning(Setup):
    """Looks answers up in the calibration profile, and shares what another Setup has loaded."""

    def __init__(self, other: Setup, scenario: Scenario) -> None:
        super().__init__(scenario)
        if not _SURROUNDINGS & other.scenario.training.keys():
            self.__dict__["calibration"] = other.calibration
            self._policies = other._policies.within(self)

    @property
    def lookup(self) -> Profile:
        return self.as_sent("calibration")
