"""What an action is: one level for each field of a Decision, or one of a list of Decisions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ...errors import UsageError
from ...models.profile import Profile
from ..decision import NEVER, Decision
from .config import EnvironmentConfig

__all__ = ["AXES", "Actions"]

AXES = ("split", "keep", "dims", "bits", "exit_margin", "offload_slope")
"""The axes of the MultiDiscrete action, in order."""

_QUANTILES = (0.1, 0.25, 0.5)


def _usual_exit_margins(profile: Profile) -> tuple[float, ...]:
    """Thresholds that matter for this network: always, quantiles of its first exit's margins, never."""
    profile.require("calibration")
    return (0.0, *np.quantile(profile.head_margin[:, 0].astype(float), _QUANTILES).tolist(), NEVER)


class Actions:
    """The action space, and the Decision behind every action.

    space      MultiDiscrete over AXES, or Discrete where `decisions` are given
    decisions  the Decision of every flat action, (A,)
    splits     int64 (A,), each Decision's split
    mask_size  entries of a mask: the sum of the axes' lengths, or A
    """

    space: spaces.MultiDiscrete | spaces.Discrete

    def __init__(
        self, config: EnvironmentConfig, profile: Profile, decisions: Sequence[Decision] | None = None
    ) -> None:
        card = profile.card
        self.depth = card.depth
        if decisions is None:
            # Only splits at which the network was measured; all local needs no measurement.
            axes: tuple[tuple[float, ...], ...] = (
                (*(cut for cut in profile.cuts if cut < card.depth), card.depth),
                config.keeps or profile.keeps,
                config.dims or profile.dims,
                config.bits or profile.bits,
                config.exit_margins or _usual_exit_margins(profile),
                config.offload_slopes,
            )
            self.axes = axes
            self.decisions = [
                Decision(int(split), keep, int(dims), int(bits), exit_margin=margin, offload_slope=slope)
                for split, keep, dims, bits, margin, slope in product(*axes)
            ]
            self.space = spaces.MultiDiscrete([len(levels) for levels in axes])
            self.lengths = tuple(len(levels) for levels in axes)
        else:
            if not decisions:
                raise UsageError("an environment needs at least one Decision to choose from")
            self.decisions = list(decisions)
            self.space = spaces.Discrete(len(self.decisions))
            self.lengths = (len(self.decisions),)
        for decision in self.decisions:
            if not isinstance(decision, Decision):
                raise UsageError(f"decisions: a list of Decision, not of {type(decision).__name__}")
            decision.check(card)
            for name, none in (("symbols", 0), ("refine_bits", 0), ("refine_keep", 0), ("merge", 1)):
                if (value := getattr(decision, name)) != none:
                    raise UsageError(f"Decision.{name} {value:g}: environments know nothing of it")
        self.splits: NDArray[np.int64] = np.array([decision.split for decision in self.decisions])
        self._first_split = self.splits if decisions is not None else np.array(axes[0], dtype=np.int64)
        self.mask_size = sum(self.lengths)
        self.strides = np.cumprod((1, *self.lengths[:0:-1]))[::-1].astype(np.int64)
        # The lengths once for each row of `flat_rows`: arrays of one shape are compared much faster than others.
        self._beyond = np.empty((0, len(self.lengths)), np.uint64)
        self._flat = {levels: i for i, levels in enumerate(product(*map(range, self.lengths)))}

    def flat(self, action: Any) -> int:
        """Index into `decisions`. UsageError for anything but one action of the space."""
        try:
            return self._flat[tuple(action.tolist()) if action.ndim else (int(action),)]
        except (AttributeError, KeyError, TypeError):
            levels = np.asarray(action)
        found = self._flat.get(tuple(levels.ravel().tolist())) if levels.ndim < 2 else None
        if found is None:
            raise UsageError(f"an action is one of {self.space}, not {action!r}")
        return found

    def flat_rows(self, actions: NDArray[np.integer]) -> NDArray[np.int64]:
        """The same for N actions at once, (N, axes) or (N,) -> (N,)."""
        rows = np.asarray(actions).reshape(len(actions), -1)
        if rows.dtype.kind not in "iu" or rows.shape[1] != len(self.lengths):
            raise UsageError(f"actions are N rows of {self.space}")
        rows = rows.astype(np.int64, copy=False)
        if len(self._beyond) != len(rows):
            self._beyond = np.array([self.lengths] * len(rows), np.uint64)
        # As unsigned numbers, negative ones are beyond every length.
        if np.count_nonzero(rows.view(np.uint64) >= self._beyond):
            raise UsageError(f"an action is outside {self.space}")
        # Of integers, half again as fast as np.dot.
        flat: NDArray[np.int64] = rows @ self.strides
        return flat

    def masks(self, reach_s: Sequence[float]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Masks by how much time is left: (depth + 2, mask_size) bool, and the times that part them, rising.

        reach_s[s]: the least time from a request's turn in which a cut after s blocks can still send, (depth + 1,).
        Row i holds where the number of entries of the rising times below the time left is i. A split that cannot
        send in time is masked; all local never is, for the agent stops by itself. So row 0 is also what holds when
        the link is down. Where a list of Decisions has no all-local one, nothing is masked in a row without choice.
        """
        times = np.sort(np.asarray(reach_s)[: self.depth])
        reach = np.asarray(reach_s)[np.minimum(self._first_split, self.depth - 1)]
        local = self._first_split == self.depth
        rows = np.ones((len(times) + 1, self.mask_size), bool)
        for row in range(len(times) + 1):
            fits = local | ((reach <= times[row - 1]) if row else np.zeros(len(reach), bool))
            rows[row, : len(fits)] = fits if fits.any() else True
        return rows, times
