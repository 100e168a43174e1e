"""`splitpoint/RecursiveExit-v0`: one step an exit on the device, which answers, goes on, or sends.

After the RL offloading policy of arXiv 2412.19587, which sees the recursion layer by layer.

    first exit ─► observation ─► 0 exit: answer here
                                 1 continue: run to the next exit; the last one answers
                                 2 offload: send from here, the server's exits go on
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ...errors import UsageError
from ...models.profile import Profile
from ..decision import NEVER, Decision
from ..features import FEATURES, Feature, features
from .actions import Actions
from .config import EnvironmentConfig
from .lookup import Lookup
from .path import draw_path
from .solo import Solo, info_of
from .tables import Tables

__all__ = ["CONTINUE", "EXIT", "OFFLOAD", "RecursiveExitEnv"]

EXIT, CONTINUE, OFFLOAD = 0, 1, 2

_NINES = 5.0


def _nines(margin: float) -> float:
    """-log10(1 - margin), at most 5: margins of a sure network differ in their nines only."""
    return min(-math.log10(max(1.0 - margin, 1e-5)), _NINES)


def _exit_features(exits: int) -> tuple[Feature, ...]:
    """What comes behind FEATURES in an observation, for a network with this many exits."""
    return (
        Feature("exit", "index of the exit that was passed last over that of the last one", 0.0, 1.0),
        Feature(
            "slope",
            "rise of its margin over that of the exit before, in nines; 0 at the first",
            -_NINES,
            _NINES,
        ),
        *(
            Feature(
                f"margin_{exit}",
                f"margin of exit {exit} in nines, -log10(1 - margin); 0 before it",
                0.0,
                _NINES,
            )
            for exit in range(exits - 1)
        ),
    )


class RecursiveExitEnv(gymnasium.Env[Any, Any]):
    """One device that decides exit by exit; labels are known here, in training, only.

    keep, dims, bits     of every request that is sent; they must be on the profile's grid
    server_exit_margin   with which the server's exits answer

    The reward is 0 until a request is answered, then its utility; info then has the same fields as that of
    `OffloadEnv`. An episode is `episode_requests` requests. `reset(options={"path": SamplePath})` walks a given path.
    Raises UsageError for an evaluation Profile, a network with fewer than two exits and unknown actions.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        config: EnvironmentConfig,
        profile: Profile,
        *,
        keep: float = 1.0,
        dims: int = 0,
        bits: int = 8,
        server_exit_margin: float = NEVER,
    ) -> None:
        self.config, self.profile = config, profile
        self._exits = profile.card.exits
        if len(self._exits) < 2:
            raise UsageError(f"{profile.card.name} has one exit only: there is nothing to decide at it")
        # One Decision for each place to send from.
        places = [
            Decision(after, keep, dims, bits, exit_margin=server_exit_margin) for after in self._exits[:-1]
        ]
        actions = Actions(config, profile, places)
        self._lookup = Lookup(Tables(config, profile, actions), actions)
        # All have the same keep.
        self._block_s = self._lookup.times[0]
        self.action_space = spaces.Discrete(3)
        self.features = (*FEATURES, *_exit_features(len(self._exits)))
        bounds = np.array([(feature.low, feature.high) for feature in self.features], np.float32).T
        self.observation_space = spaces.Box(bounds[0].copy(), bounds[1].copy(), dtype=np.float32)
        self._scales = config.scales
        self._steps = 0
        self._exit = 0
        self._now_s = 0.0
        self._margins: list[float] = []
        self._solo: Solo

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        path = (options or {}).get("path")
        if path is None:
            if seed is None:
                seed = int(self.np_random.integers(1 << 31))
            path = draw_path(self.config, seed, self.config.device, len(self.profile))
        self._solo = Solo(self.config, path, self.profile.reply_bytes)
        self._steps = len(path.arrivals_s) - 1
        self._begin()
        return self._observe(), {"action_mask": self.action_masks()}

    def action_masks(self) -> NDArray[np.bool_]:
        """Of exit, continue and offload those that can do what they say, (3,)."""
        left_s = self._solo.due_s - self.config.slack_s - self._now_s
        return np.array(
            [
                True,
                self._next_s() <= left_s,
                self._solo.link_up and left_s > self.config.overhead_s,
            ]
        )

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if action not in (EXIT, CONTINUE, OFFLOAD):
            raise UsageError(f"an action is 0 (exit), 1 (continue) or 2 (offload), not {action!r}")
        info: dict[str, Any] = {}
        reward = 0.0
        answer_by_s = self._solo.due_s - self.config.slack_s
        if action == EXIT:
            reward, info = self._answer(False, False, 0)
        elif action == CONTINUE:
            if self._now_s + self._next_s() > answer_by_s:
                reward, info = self._answer(False, True, 0)
            else:
                self._run()
                if self._exit == len(self._exits) - 1:
                    reward, info = self._answer(False, False, 0)
        elif self._solo.link_up and answer_by_s > self._now_s:
            nbytes, server_exit, server_s = self._lookup.server(self._exit, self._cut, self._solo.sample)
            self._now_s, replied = self._solo.send(self._now_s, answer_by_s, nbytes, server_s)
            reward, info = self._answer(replied, not replied, nbytes, server_exit)
        else:
            reward, info = self._answer(False, True, 0)
        if info:
            self._begin()
        info["action_mask"] = self.action_masks()
        return self._observe(), reward, False, self._solo.requests > self._steps, info

    @property
    def _cut(self) -> int:
        return self._exits[self._exit]

    def _next_s(self) -> float:
        """Seconds to the next exit."""
        block_s = self._block_s
        return block_s[self._exits[self._exit + 1]] - block_s[self._cut]

    def _begin(self) -> None:
        """The next request's turn: run to the first exit."""
        self._solo.begin()
        self._exit = 0
        self._now_s = self._solo.start_s + self._block_s[self._cut]
        self._margins = [self._lookup.head_answer(0, self._solo.sample, 0)[1]]

    def _run(self) -> None:
        self._now_s += self._next_s()
        self._exit += 1
        self._margins.append(self._lookup.head_answer(0, self._solo.sample, self._exit)[1])

    def _answer(
        self, replied: bool, degraded: bool, nbytes: int, server_exit: int = 0
    ) -> tuple[float, dict[str, Any]]:
        lookup, sample = self._lookup, self._solo.sample
        cut, exit = self._cut, server_exit if replied else self._exit
        found = (
            lookup.server_answer(self._exit, cut, sample) if replied else lookup.head_answer(0, sample, exit)
        )
        correct, margin = found
        result = self._solo.finish(self._now_s, self._block_s[cut], correct, replied)
        return result.reward, info_of(
            result,
            self.config.weights,
            nbytes=nbytes,
            cut=cut,
            exit=exit,
            margin=margin,
            offloaded=nbytes > 0,
            degraded=degraded,
        )

    def _observe(self) -> NDArray[np.float32]:
        observation = self._solo.observation._replace(time_left_s=self._solo.due_s - self._now_s)
        margins = [_nines(margin) for margin in self._margins]
        slope = margins[-1] - margins[-2] if len(margins) > 1 else 0.0
        missing = [0.0] * (len(self._exits) - 1 - len(margins))
        recursion = [self._exit / (len(self._exits) - 1), slope, *margins, *missing]
        return np.concatenate([features(observation, self._scales), np.array(recursion, np.float32)])
