"""The two engines in virtual time: `profile` looks the network's answers up, `tensor` runs the network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..channel.config import build_links, build_medium, build_report
from ..policies.arrivals import Bursts
from ..policies.oracle import Sight
from ..policies.service_time import Pace, next_exit
from .backends import Backend, ProfileBackend
from .inputs import load_inputs
from .opinions import Opinions, ProfileOpinions
from .policy_config import OraclePolicy, PolicyConfig
from .records import table
from .setup import Setup
from .tuning import hindsight_prices
from .virtual import VirtualDevice, VirtualRun
from .virtual_batches import BatchRun
from .virtual_quorum import VirtualQuorum
from .virtual_server import VirtualServer

__all__ = ["VirtualEngine"]


class VirtualEngine:
    """Runs policies of one scenario in virtual time.

    engine    "profile" or "tensor"
    progress  called once a request
    """

    def __init__(self, setup: Setup, engine: str, progress: Callable[[], None] | None = None) -> None:
        self.setup = setup
        self._progress = progress
        self.labels: np.ndarray
        self._backend: Backend
        if engine == "profile":
            self._backend = ProfileBackend(setup.lookup)
            self.labels = setup.lookup.labels
        else:
            from .tensor import TensorBackend

            tensor = TensorBackend(setup)
            self._backend, self.labels = tensor, tensor.labels
        self._opinions = None if setup.scenario.quorum is None else _opinions(setup, engine)

    def run(self, policy: PolicyConfig) -> dict[str, np.ndarray]:
        """One policy over all requests: the columns of its records."""
        if isinstance(policy, OraclePolicy) and policy.prices is None and self._has_budgets:
            # The runs that find the prices are not the one that is waited for.
            progress, self._progress = self._progress, None
            policy = policy.model_copy(update={"prices": hindsight_prices(self, policy)})
            self._progress = progress
        setup, scenario = self.setup, self.setup.scenario
        channel = scenario.channel_config()
        uplink, downlink = build_medium(channel.uplink), build_medium(channel.downlink)
        devices = []
        times = setup.arrivals()
        inputs = setup.inputs(len(self.labels), times)
        links = build_links(channel.links, scenario.seed)
        for index, (group, arrivals, link) in enumerate(zip(setup.groups, times, links, strict=True)):
            report = build_report(channel.report, link, scenario.seed, uplink, len(arrivals))
            sight = Sight(link, uplink, downlink, arrivals, inputs[index])
            session = setup.session(policy, index, sight, report.newest if report.every_s else None)
            devices.append(
                VirtualDevice(index, session, link, report, group.overhead_s, arrivals, inputs[index])
            )
        server: Any = partial(self._server, faults=scenario.faults)
        # Who comes alone pays nothing for those that come together.
        bursts = any(isinstance(group.arrivals, Bursts) for group in setup.groups)
        run = (BatchRun if bursts else VirtualRun)(
            devices,
            self._backend,
            uplink,
            downlink,
            server,
            probe_s=scenario.probe_s,
            progress=self._progress,
        )
        return table(run.run(), self.labels, scenario.deadline_s)

    @property
    def _has_budgets(self) -> bool:
        return bool(self.setup.scenario.budgets.budgets().active)

    def close(self) -> None:
        """Nothing to close: no processes."""

    def _server(self, env: Any, replied: Any, lost: Any, faults: Any) -> VirtualServer | VirtualQuorum:
        config, quorum = self.setup.scenario.server, self.setup.scenario.quorum
        if quorum is not None:
            assert self._opinions is not None
            return VirtualQuorum(
                env,
                quorum,
                self._opinions,
                self.setup.learner_macs,
                partial(next_exit, self.setup.card),
                config.max_pending,
                faults,
                replied,
                lost,
            )
        return VirtualServer(
            env,
            self._backend,
            self.setup.card,
            Pace(config.base_s, config.macs_per_s),
            config.max_batch,
            config.max_pending,
            faults,
            replied,
            lost,
        )


def _opinions(setup: Setup, engine: str) -> Opinions:
    quorum = setup.scenario.quorum
    assert quorum is not None
    if engine == "profile":
        names = [learner.name for learner in quorum.learners]
        return ProfileOpinions(setup.pool(setup.lookup.split_name), names)
    from ..models.learner import load_learner
    from .tensor_opinions import TensorOpinions

    return TensorOpinions([load_learner(file) for file in setup.learner_files], load_inputs(setup).images)
