"""The tables for N copies at once: `lookup.Lookup` on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .actions import Actions
from .tables import Tables

__all__ = ["LookupRows"]

Ints = NDArray[np.integer]
Mask = NDArray[np.bool_]
Array = NDArray[np.float64]


class LookupRows:
    """Actions are flat indices (N,), samples (N,), cuts (N,)."""

    def __init__(self, tables: Tables, actions: Actions) -> None:
        self._tables = tables
        self.block_s = tables.block_s
        self.first = tables.exits[0]
        self.passed = tables.passed
        self._samples, self._depth, self._exits = tables.samples, tables.depth, len(tables.exits)
        self._row = tables.head_row * tables.samples
        self._level = tables.level * tables.nbytes.size
        self._split = actions.splits
        # For each split the first stop, and whether each cut is a stop.
        self._first_stop = np.array([stops[0] if stops else 0 for stops in tables.stops])
        self._is_stop = np.zeros((self._depth + 1, self._depth + 1), bool)
        for split, stops in enumerate(tables.stops):
            self._is_stop[split, list(stops)] = True
        self._plan = tables.plan.reshape(-1)
        self._config = tables.config.reshape(-1)
        self._nbytes = tables.nbytes.reshape(-1).astype(float)
        self._head_correct = tables.head_correct.reshape(-1)
        self._head_margin = tables.head_margin.reshape(-1)
        self._server_exit = tables.server_exit.reshape(-1)
        self._server_correct = tables.server_correct.reshape(-1)
        self._server_margin = tables.server_margin.reshape(-1)
        self._server_s = tables.server_s.reshape(-1)

    def head(self, action: Ints, sample: Ints, available_s: Array) -> tuple[Ints, Mask, Mask]:
        """(cut at which the device answers or sends, whether it answers, whether there was time to get there)."""
        plan = self._plan[self._row[action] + sample]
        cut = (plan >> 1).astype(np.int64)
        local = (plan & 1).astype(bool)
        in_time = self.block_s[cut] <= available_s
        short = np.flatnonzero(~in_time)
        if len(short):
            split = self._split[action[short]]
            first = self._first_stop[split]
            reachable = self._is_stop[split] & (self.block_s <= available_s[short, None])
            reachable[np.arange(len(short)), first] = True
            last = self._depth - reachable[:, ::-1].argmax(axis=1)
            stopped = cut[short] > first
            in_time[short] = ~stopped
            cut[short] = np.where(stopped, last, cut[short])
            local[short] &= ~stopped
        return cut, local, in_time

    def server(self, action: Ints, cut: Ints, sample: Ints) -> tuple[Array, Ints, Array, Mask, Array]:
        """(bytes, exit that answers on the server, its seconds, whether it is right, margin); junk at full depth."""
        config = self._config[action * self._depth + np.minimum(cut, self._depth - 1)]
        place = config * self._samples + sample
        answer = self._level[action] + place
        exit = self._server_exit[answer]
        return (
            self._nbytes[place],
            exit,
            self._server_s[config * self._exits + exit],
            self._server_correct[answer],
            self._server_margin[answer],
        )

    def head_answer(self, sample: Ints, exit: Ints) -> tuple[Mask, Array]:
        """(whether the device's exit is right, its margin)."""
        place = sample * self._exits + exit
        return self._head_correct[place], self._head_margin[place]
