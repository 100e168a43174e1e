"""`splitpoint/Offload-v0`: one step a request, an action is a whole Decision, the reward is the utility."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ...models.profile import Profile
from ..decision import Decision
from ..features import FEATURES, features
from ..observation import Observation
from .actions import Actions
from .config import EnvironmentConfig
from .lookup import Lookup
from .path import SamplePath, draw_path
from .solo import Solo, info_of
from .tables import Tables

__all__ = ["OffloadEnv", "feature_space"]


def feature_space() -> spaces.Box:
    """Where observations lie: the ranges of FEATURES."""
    low, high = (
        np.array(bounds, np.float32) for bounds in zip(*((f.low, f.high) for f in FEATURES), strict=True)
    )
    return spaces.Box(low, high, dtype=np.float32)


class OffloadEnv(gymnasium.Env[Any, Any]):
    """One device that decides request by request; labels are known here, in training, only.

    config     the device, its radio and server, the utility, the levels of an action
    profile    a calibration Profile
    decisions  choose from this list instead: the action space is then Discrete

    Observations are `features` of the Observation, (10,) float32. `reset(options={"path": SamplePath})` walks a
    given path; else episode 0 of a seed walks the path of that seed, and each further one one of its own. Episodes
    are truncated after `episode_requests` steps and never terminate.

    Raises UsageError for an evaluation Profile and for actions outside the space, GridError for levels off the grid.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self, config: EnvironmentConfig, profile: Profile, decisions: Sequence[Decision] | None = None
    ) -> None:
        self.config = config
        self.profile = profile
        self.actions = Actions(config, profile, decisions)
        self.action_space = self.actions.space
        self.observation_space = feature_space()
        tables = Tables(config, profile, self.actions)
        self._lookup = Lookup(tables, self.actions)
        self._masks, times = self.actions.masks(tables.reach_s(config))
        self._mask_times: list[float] = times.tolist()
        self._scales = config.scales
        self._steps = 0
        self._solo: Solo

    @property
    def observation(self) -> Observation:
        """What the device knows now, as policies see it."""
        return self._solo.observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        path = (options or {}).get("path")
        if path is None:
            if seed is None:
                seed = int(self.np_random.integers(1 << 31))
            path = draw_path(self.config, seed, self.config.device, len(self.profile))
        assert isinstance(path, SamplePath)
        self._solo = Solo(self.config, path, self.profile.reply_bytes)
        self._steps = len(path.arrivals_s) - 1
        return self._observe(), {"action_mask": self.action_masks()}

    def action_masks(self) -> NDArray[np.bool_]:
        """Choices that can do what they say, (mask_size,): those of each axis one after the other."""
        left_s = self._solo.observation.time_left_s if self._solo.link_up else -np.inf
        return self._masks[bisect_left(self._mask_times, left_s)].copy()

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        index = self.actions.flat(action)
        solo, config, lookup = self._solo, self.config, self._lookup
        start_s, due_s, sample = solo.start_s, solo.due_s, solo.sample
        cut, local, in_time = lookup.head(index, sample, due_s - config.slack_s - start_s)
        block_s, first = lookup.times[index], lookup.first
        now_s = start_s + block_s[cut]
        exit, replied, offloaded, nbytes = lookup.passed[cut], False, False, 0
        if not local:
            reserve_s = block_s[first] - block_s[cut] if cut < first else 0.0
            answer_by_s = due_s - config.slack_s - reserve_s
            offloaded = in_time and solo.link_up and answer_by_s > now_s
            if offloaded:
                nbytes, server_exit, server_s = lookup.server(index, cut, sample)
                now_s, replied = solo.send(now_s, answer_by_s, nbytes, server_s)
        if replied:
            exit = server_exit
            correct, margin = lookup.server_answer(index, cut, sample)
        else:
            if not local and cut < first:
                now_s += block_s[first] - block_s[cut]
                cut = first
            correct, margin = lookup.head_answer(index, sample, exit)
        result = solo.finish(now_s, block_s[cut], correct, replied)
        info = info_of(
            result,
            config.weights,
            nbytes=nbytes,
            cut=cut,
            exit=exit,
            margin=margin,
            offloaded=offloaded,
            degraded=not (local or replied),
        )
        observation = self._observe()
        info["action_mask"] = self.action_masks()
        return observation, result.reward, False, solo.requests > self._steps, info

    def _observe(self) -> NDArray[np.float32]:
        return features(self._solo.begin(), self._scales)
