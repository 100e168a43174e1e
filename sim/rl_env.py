"""The vector environment as Stable-Baselines3 wants it, with memory and prices beside the observations."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from ..policies.budgets import Budgets
from ..policies.environments.offload import feature_space
from ..policies.environments.vector import OffloadVectorEnv
from ..policies.memory import MEMORY, Memory, price_features
from ..seeding import generator

__all__ = ["TrainingVecEnv"]

_FREE = 0.25
"""Share of the episodes in which budgets have no price."""

_PRICES = (-2.7, -0.3)
"""log10 of the prices of the others, uniform: utility per unit of the budget."""


class TrainingVecEnv(VecEnv):
    """Copies of Offload-v0. An episode has constant prices, one a budget; the reward is utility less what they take.

    So one network learns what is best at every price, and a virtual queue chooses the price when it is used.
    prices: fixed ones, (budgets,), instead of drawn ones, for evaluation.
    """

    def __init__(
        self, envs: OffloadVectorEnv, budgets: Budgets, seed: int, prices: np.ndarray | None = None
    ) -> None:
        low, high = feature_space().low, feature_space().high
        extra = len(MEMORY) + len(budgets.active)
        space = spaces.Box(
            np.concatenate([low, np.zeros(extra, np.float32)]),
            np.concatenate([high, np.full(extra, 64.0, np.float32)]),
            dtype=np.float32,
        )
        self.envs = envs
        self._budgets = budgets
        self._fixed = prices
        self._seed = seed
        self._draws = generator(seed, "training-prices")
        self._actions: np.ndarray
        self.render_mode = None
        super().__init__(envs.num_envs, space, envs.single_action_space)

    def resume(self, steps: int) -> None:
        """Other episodes from the next `reset` on: a training that goes on after `steps` has seen the first ones."""
        self._draws = generator(self._seed, "training-prices", steps)
        self._seed = int(generator(self._seed, "training-resumed", steps).integers(1 << 31))

    def reset(self) -> Any:
        rows, _ = self.envs.reset(seed=self._seed)
        self._begin()
        return self._observed(rows)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        rows, rewards, _, ended, infos = self.envs.step(self._actions)
        self._memory.learn(infos["offloaded"], infos["degraded"], infos["margin"])
        airtime_s = infos["airtime_up_s"] + infos["airtime_down_s"]
        costs = {"latency_s": infos["latency_s"], "energy_j": infos["energy_j"], "airtime_s": airtime_s}
        self.utility = rewards
        for k, (name, limit) in enumerate(zip(self._budgets.active, self._budgets.limits, strict=True)):
            # The mean over all policies of a price is no one's merit: without it the reward is of one size.
            rewards = rewards - self._prices[:, k] * (costs[name] / limit - 1.0)
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended[0]:
            last = self._observed(infos["final_obs"])
            told = [{"terminal_observation": row, "TimeLimit.truncated": True} for row in last]
            self._begin()
        return self._observed(rows), rewards.astype(np.float32), ended.copy(), told

    def _begin(self) -> None:
        self._memory = Memory(self.num_envs)
        shape = self.num_envs, len(self._budgets.active)
        if self._fixed is not None:
            self._prices = np.broadcast_to(self._fixed, shape)
        else:
            drawn = 10.0 ** self._draws.uniform(*_PRICES, shape)
            self._prices = np.where(self._draws.random(shape) < _FREE, 0.0, drawn)

    def _observed(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, self._memory.rows(), price_features(self._prices)], axis=1)

    @property
    def prices(self) -> np.ndarray:
        """(copies, budgets)"""
        return self._prices

    def action_masks(self) -> np.ndarray:
        return self.envs.action_masks()

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        found = getattr(self, method_name)(*args, **kwargs)
        return list(found) if method_name == "action_masks" else [found for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]
