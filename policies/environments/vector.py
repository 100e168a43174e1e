"""`splitpoint/Offload-v0` for N copies at once: numpy over all copies, no loop over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ...errors import UsageError
from ...models.profile import Profile
from ..decision import Decision
from .actions import Actions
from .bank import LinkBank
from .config import EnvironmentConfig
from .lookup_rows import LookupRows
from .many import Many
from .offload import feature_space
from .path import draw_bank, draw_paths, stack_paths
from .reports import Modems
from .tables import Tables

__all__ = ["OffloadVectorEnv"]


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
        if num_envs < 1:
            raise UsageError("a vector environment needs at least one copy")
        if link_paths < 1:
            raise UsageError("a vector environment needs at least one link path")
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
        self._modems: Modems
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
            modems = Modems(self.config.report, stacked.bank)
        else:
            if seed is not None or self._bank is None:
                root = int(self.np_random.integers(1 << 31))
                self._bank = draw_bank(self.config, root, self._link_paths)
                self._modems = Modems(self.config.report, self._bank)
            stacked = draw_paths(self.config, self._bank, self.np_random, self.num_envs, len(self.profile))
            modems = self._modems
        self._many = Many(self.config, stacked, modems, self.profile.reply_bytes)
        self._steps = len(stacked.arrivals_s) - 1
        return self._many.begin(), {"action_mask": self.action_masks()}

    def action_masks(self) -> NDArray[np.bool_]:
        """(N, mask_size): see `OffloadEnv.action_masks`."""
        many = self._many
        left_s = np.where(many.link_up, many.left_s, -np.inf)
        return self._masks.take(self._mask_times.searchsorted(left_s, side="left"), axis=0)

    def step(
        self, actions: Any
    ) -> tuple[
        NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        if not hasattr(self, "_many"):
            raise UsageError("reset this environment before its first step")
        if np.shape(actions)[:1] != (self.num_envs,):
            raise UsageError(f"a step takes {self.num_envs} actions, one a copy, not {np.shape(actions)}")
        many, lookup = self._many, self._lookup
        heads, request = lookup.look_up(
            self.actions.flat_rows(actions), many.sample, many.answer_s - many.start_s
        )
        now_s = many.start_s + heads.seconds
        # Who waits for the server keeps the time in reserve that its own first exit takes.
        answer_by_s = many.answer_s - heads.fall_s
        offloaded = heads.sends & many.link_up & (answer_by_s > now_s)
        trips = many.send(offloaded, now_s, answer_by_s, request)
        replied = trips.replied
        # The look-up's arrays are ours to write in, which costs half of np.where.
        np.putmask(heads.answer, replied, request.answer)
        exit, correct, margin = lookup.answers(heads.answer)
        infos = many.finish(heads, offloaded, now_s, answer_by_s, trips, correct)
        infos["nbytes"] = request.nbytes * offloaded
        np.putmask(heads.fallen_cut, replied, heads.cut)
        infos["cut"] = heads.fallen_cut
        infos["exit"] = exit
        infos["margin"] = margin
        infos["offloaded"] = offloaded
        infos["degraded"] = ~(heads.answers | replied)
        observations = many.begin()
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
