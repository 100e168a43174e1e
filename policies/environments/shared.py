"""Several devices on one medium and one server, as a PettingZoo parallel environment.

    step: every device's Decision for its next request
      heads, each by itself ─► uplink in the order of sending ─► server: batches ─► downlink ─► rewards of all

Devices meet on the media and in the server's batches. Requests of one step come before those of the next there, so
arrivals should keep step: periodic ones do; where they drift apart, who is behind finds the medium taken.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from ...channel.config import build_medium
from ...channel.medium import Medium, Transfer
from ...errors import UsageError
from ...models.profile import Profile
from ...seeding import generator
from ..decision import Decision
from ..features import features
from .actions import Actions
from .config import EnvironmentConfig
from .lookup import Lookup
from .offload import feature_space
from .path import draw_path
from .shared_server import Job, SharedServer
from .solo import Solo, info_of
from .tables import Tables

__all__ = ["SharedOffloadEnv"]


@dataclass(slots=True)
class _Request:
    """One device's request of a step on its way."""

    agent: str
    solo: Solo
    index: int
    cut: int
    now_s: float
    answer_by_s: float = math.nan
    nbytes: int = 0
    exit: int = 0
    send_s: float = math.inf
    local: bool = False
    offloaded: bool = False
    replied: bool = False
    up: Transfer | None = None
    job: Job | None = None
    down: Transfer | None = None


class SharedOffloadEnv(ParallelEnv[str, Any, Any]):
    """Equal devices `device_0`, ... with links, arrivals and inputs of their own.

    Spaces, rewards and infos of each are those of `OffloadEnv`. All are truncated after `episode_requests` steps.
    `reset(options={"paths": [SamplePath, ...]})` gives each device its path. Raises UsageError for an evaluation
    Profile and for actions outside the space.
    """

    metadata = {"name": "splitpoint_shared_v0", "render_modes": [], "is_parallelizable": True}  # noqa: RUF012

    def __init__(
        self,
        config: EnvironmentConfig,
        profile: Profile,
        devices: int = 4,
        decisions: Sequence[Decision] | None = None,
    ) -> None:
        if devices < 1:
            raise UsageError("an environment needs at least one device")
        self.config, self.profile = config, profile
        self.render_mode = None
        self.possible_agents = [f"device_{index}" for index in range(devices)]
        self.agents: list[str] = []
        self.actions = Actions(config, profile, decisions)
        tables = Tables(config, profile, self.actions)
        self._lookup = Lookup(tables, self.actions)
        self._masks, times = self.actions.masks(tables.reach_s(config))
        self._mask_times: list[float] = times.tolist()
        self.observation_spaces = {agent: feature_space() for agent in self.possible_agents}
        self.action_spaces = dict.fromkeys(self.possible_agents, self.actions.space)
        # Without a seed nobody's episodes are another's, as Gymnasium has it.
        self._episodes = np.random.default_rng()
        self._steps = 0
        self._solos: dict[str, Solo] = {}
        self._uplink: Medium
        self._downlink: Medium
        self._server: SharedServer

    def observation_space(self, agent: str) -> Any:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        if seed is not None:
            self._episodes = generator(seed, "episodes")
        else:
            seed = int(self._episodes.integers(1 << 31))
        paths = (options or {}).get("paths") or [
            draw_path(self.config, seed, index, len(self.profile))
            for index in range(len(self.possible_agents))
        ]
        self.agents = self.possible_agents[:]
        self._uplink, self._downlink = build_medium(self.config.uplink), build_medium(self.config.downlink)
        self._server = SharedServer(self.profile.card, self.config.server, self.config.max_batch)
        self._solos = {
            agent: Solo(self.config, path, self.profile.reply_bytes, self._uplink)
            for agent, path in zip(self.agents, paths, strict=True)
        }
        self._steps = min(len(path.arrivals_s) for path in paths) - 1
        return self._observe(), {agent: {"action_mask": self.action_mask(agent)} for agent in self.agents}

    def action_mask(self, agent: str) -> NDArray[np.bool_]:
        """As `OffloadEnv.action_masks`."""
        solo = self._solos[agent]
        left_s = solo.observation.time_left_s if solo.link_up else -math.inf
        return self._masks[bisect_left(self._mask_times, left_s)].copy()

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        if not self.agents:
            raise UsageError("reset this environment before its first step, and after an episode's last")
        if missing := [agent for agent in self.agents if agent not in actions]:
            raise UsageError(f"a step takes an action of every device; there is none of {missing[0]}")
        requests = [self._head(agent, self.actions.flat(actions[agent])) for agent in self.agents]
        sent = sorted((r for r in requests if r.send_s < r.answer_by_s), key=lambda r: r.send_s)
        self._carry(self._uplink, [(r, r.send_s, r.nbytes, 2 * r.solo.requests) for r in sent], "up")
        for request in sent:
            if request.up is not None and request.up.done_s < math.inf:
                request.job = self._job(request, request.up.done_s)
        self._server.serve([request.job for request in sent if request.job is not None])
        served = [r for r in sent if r.job is not None and r.job.replied_s < math.inf]
        served.sort(key=lambda r: r.job.replied_s if r.job else math.inf)
        reply_bytes = self.profile.reply_bytes
        self._carry(
            self._downlink,
            [(r, r.job.replied_s, reply_bytes, 2 * r.solo.requests + 1) for r in served if r.job],
            "down",
        )
        rewards, infos = {}, {}
        for request in requests:
            rewards[request.agent], infos[request.agent] = self._close(request)
        observations = self._observe()
        ended = next(iter(self._solos.values())).requests > self._steps
        for agent in self.agents:
            infos[agent]["action_mask"] = self.action_mask(agent)
        terminated = dict.fromkeys(self.agents, False)
        truncated = dict.fromkeys(self.agents, ended)
        if ended:
            self.agents = []
        return observations, rewards, terminated, truncated, infos

    def _head(self, agent: str, index: int) -> _Request:
        """Run the device's part; what it sends is ready at `send_s`."""
        solo, config, lookup = self._solos[agent], self.config, self._lookup
        block_s, first = lookup.times[index], lookup.first
        answer_s = solo.due_s - config.slack_s
        cut, local, in_time = lookup.head(index, solo.sample, answer_s - solo.start_s)
        request = _Request(agent, solo, index, cut, solo.start_s + block_s[cut], local=local)
        if not local:
            request.answer_by_s = answer_s - max(block_s[first] - block_s[cut], 0.0)
            request.offloaded = in_time and solo.link_up and request.answer_by_s > request.now_s
        if request.offloaded:
            # How long the server works on it depends on its batch.
            request.nbytes, request.exit, _ = lookup.server(index, cut, solo.sample)
            request.send_s = solo.start_sending(request.now_s, request.answer_by_s)
        return request

    def _job(self, request: _Request, done_s: float) -> Job:
        solo, decision = request.solo, self.actions.decisions[request.index]
        config = self.profile.config(request.cut, decision.keep, decision.dims, decision.bits)
        tokens = int(self.profile.tokens[config, solo.sample])
        return Job(done_s + solo.half_trip_s, request.cut, tokens, request.exit, request.answer_by_s)

    def _carry(self, medium: Medium, messages: list[tuple[_Request, float, int, int]], way: str) -> None:
        """Put messages on a medium in the order of their times, and wait for the end of all."""
        open_ = 0
        for request, now_s, nbytes, key in messages:
            transfer = medium.submit(now_s, request.solo.link, nbytes, key, request)
            if transfer is None:
                open_ += 1
            else:
                setattr(request, way, transfer)
        while open_:
            for completion in medium.pop_completed(medium.next_completion()):
                setattr(completion.tag, way, completion.transfer)
                open_ -= 1

    def _close(self, request: _Request) -> tuple[float, dict[str, Any]]:
        """The device has its answer, from the server or from itself."""
        solo, lookup, cut = request.solo, self._lookup, request.cut
        block_s = lookup.times[request.index]
        done_s = request.now_s
        if request.offloaded and request.send_s >= request.answer_by_s:
            done_s = request.send_s
        elif request.offloaded:
            delivered_s = math.inf if request.down is None else request.down.done_s + solo.half_trip_s
            if delivered_s < request.answer_by_s:
                assert request.up is not None
                assert request.down is not None
                assert request.job is not None
                job = request.job
                on_server_s = job.replied_s - job.received_s
                solo.reply(delivered_s, request.up.airtime_s, request.down.airtime_s, on_server_s, job.load)
                request.replied, done_s = True, delivered_s
            else:
                solo.no_reply(request.nbytes)
                done_s = request.answer_by_s
        if request.replied:
            exit = request.exit
            correct, margin = lookup.server_answer(request.index, cut, solo.sample)
        else:
            if not request.local and cut < lookup.first:
                done_s += block_s[lookup.first] - block_s[cut]
                cut = lookup.first
            exit = lookup.passed[cut]
            correct, margin = lookup.head_answer(request.index, solo.sample, exit)
        result = solo.finish(done_s, block_s[cut], correct, request.replied)
        return result.reward, info_of(
            result,
            self.config.weights,
            nbytes=request.nbytes,
            cut=cut,
            exit=exit,
            margin=margin,
            offloaded=request.offloaded,
            degraded=not (request.local or request.replied),
        )

    def _observe(self) -> dict[str, Any]:
        return {agent: features(solo.begin(), self.config.scales) for agent, solo in self._solos.items()}
