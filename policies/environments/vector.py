"""`splitpoint/Offload-v0` for N copies at once: numpy over all copies, no loop over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ...models.profile import Profile
from ..decision import Decision
from ..features import feature_rows
from .actions import Actions
from .bank import LinkBank
from .config import EnvironmentConfig
from .lookup_rows import LookupRows
from .many import Many
from .offload import feature_space
from .path import draw_bank, draw_paths, stack_paths
from .tables import Tables

__all__ = ["OffloadVectorEnv"]


_NO_LOAD = np.zeros(1)


class OffloadVectorEnv(VectorEnv[Any, Any, Any]):
    """Copies of `OffloadEnv`, each a device of its own, walking in step.

    link_paths   how many links are drawn, of which each episode of each copy takes one

    All draws come from one generator, seeded by `reset(seed)`. Episodes have equal length: all copies are truncated
    by the same step, which also resets them; the last observations are then in `infos["final_obs"]`. infos holds
    arrays over the copies. `reset(options={"paths": [SamplePath, ...]})` gives each copy its path.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012 - Gymnasium's own

    def __init__(
        self,
        config: EnvironmentConfig,
        profile: Profile,
        num_envs: int = 1,
        decisions: Sequence[Decision] | None = None,
        link_paths: int = 32,
    ) -> None:
        self.config, self.profile, self.num_envs = config, profile, num_envs
        self.actions = Actions(config, profile, decisions)
        self.single_action_space = self.actions.space
        self.single_observation_space = feature_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        tables = Tables(config, profile, self.actions)
        self._lookup = LookupRows(tables, self.actions)
        self._masks, self._mask_times = self.actions.masks(tables.reach_s(config))
        self._link_paths = link_paths
        self._bank: LinkBank | None = None
        self._many: Many
        self._steps = 0

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if isinstance(seed, list):
            seed = seed[0]
        super().reset(seed=seed)
        paths = (options or {}).get("paths")
        if paths is not None:
            stacked = stack_paths(self.config, paths, self._lookup.longest_s)
        else:
            if seed is not None or self._bank is None:
                root = int(self.np_random.integers(1 << 31))
                self._bank = draw_bank(self.config, root, self._link_paths)
            stacked = draw_paths(self.config, self._bank, self.np_random, self.num_envs, len(self.profile))
        self._many = Many(self.config, stacked, self.profile.reply_bytes)
        self._steps = len(stacked.arrivals_s) - 1
        return self._observe(), {"action_mask": self.action_masks()}

    def action_masks(self) -> NDArray[np.bool_]:
        """(N, mask_size): see `OffloadEnv.action_masks`."""
        many = self._many
        left_s = np.where(many.link_up, many.due_s - many.start_s, -np.inf)
        return self._masks[self._mask_times.searchsorted(left_s, side="left")]

    def step(
        self, actions: Any
    ) -> tuple[
        NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        index = self.actions.flat_rows(actions)
        many, config, lookup = self._many, self.config, self._lookup
        first, sample = lookup.first, many.sample
        answer_s = many.due_s - config.slack_s
        cut, local, in_time = lookup.head(index, sample, answer_s - many.start_s)
        head_s = lookup.seconds(index, cut)
        sent_s = many.start_s + head_s
        to_first_s = np.maximum(lookup.seconds(index, first) - head_s, 0.0)
        answer_by_s = answer_s - to_first_s
        offloaded = ~local & in_time & many.link_up & (answer_by_s > sent_s)
        nbytes, bits, server_exit, server_s, server_correct, server_margin = lookup.server(index, cut, sample)
        trips = many.send(offloaded, sent_s, answer_by_s, nbytes, bits, server_s)
        replied = trips.replied
        degraded = ~(local | replied)
        done_s = trips.done_s + to_first_s * degraded
        cut = np.where(degraded, np.maximum(cut, first), cut)
        head_exit = lookup.passed[cut]
        head_correct, head_margin = lookup.head_answer(index, sample, head_exit)
        infos = many.finish(
            done_s,
            head_s + to_first_s * degraded,
            np.where(replied, server_correct, head_correct),
            trips,
            offloaded & degraded,
            sent_s,
            answer_by_s,
        )
        infos["nbytes"] = (nbytes * offloaded).astype(np.int64)
        infos["cut"] = cut
        infos["exit"] = np.where(replied, server_exit, head_exit)
        infos["margin"] = np.where(replied, server_margin, head_margin)
        infos["offloaded"] = offloaded
        infos["degraded"] = degraded
        observations = self._observe()
        ended = many.requests > self._steps
        if ended:
            infos["final_obs"] = observations
            observations, _ = self.reset()
        infos["action_mask"] = self.action_masks()
        return (
            observations,
            infos["reward"],
            np.zeros(self.num_envs, bool),
            np.ones(self.num_envs, bool) if ended else np.zeros(self.num_envs, bool),
            infos,
        )

    def _observe(self) -> NDArray[np.float32]:
        many = self._many
        many.begin()
        estimates = many.estimates
        return feature_rows(
            *estimates.at(many.start_s),
            estimates.round_trip_s,
            many.behind,
            # Alone, a device finds the server idle whenever it replies.
            _NO_LOAD,
            many.energy_left_j,
            many.due_s - many.start_s,
            many.link_up,
            self.config.scales,
        )
