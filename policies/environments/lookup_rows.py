"""The tables for N copies at once: `lookup.Lookup` on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .actions import Actions
from .bank import lossless_bits
from .tables import Tables

__all__ = ["LookupRows"]

Ints = NDArray[np.integer]
Mask = NDArray[np.bool_]
Array = NDArray[np.float64]


class LookupRows:
    """Actions are flat indices (N,), samples (N,), cuts (N,)."""

    def __init__(self, tables: Tables, actions: Actions) -> None:
        self._tables = tables
        self.longest_s = float(tables.block_s.max())
        self._times, self._way = tables.block_s, tables.way
        self._one_way = len(tables.block_s) == 1
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
        self._cut = (tables.plan >> 1).astype(np.int64).reshape(-1)
        self._local = (tables.plan & 1).astype(bool).reshape(-1)
        # One more column, for what stays on the device and is looked up in vain.
        config = np.concatenate([tables.config, tables.config[:, -1:]], axis=1)
        self._config = np.maximum(config, 0).astype(np.int64).reshape(-1)
        self._nbytes = tables.nbytes.reshape(-1).astype(float)
        self._bits = lossless_bits(self._nbytes)
        self._head_correct = tables.head_correct.reshape(-1)
        self._head_margin = tables.head_margin.reshape(-1)
        self._server_exit = tables.server_exit.reshape(-1)
        self._server_correct = tables.server_correct.reshape(-1)
        self._server_margin = tables.server_margin.reshape(-1)
        self._service = tables.service.reshape(-1).astype(np.int64) * self._exits
        self._server_s = tables.server_s.reshape(-1)

    def seconds(self, action: Ints, cut: Ints | int) -> Array:
        """Seconds on the device to each cut."""
        times: Array = self._times[0][cut] if self._one_way else self._times[self._way[action], cut]
        return times

    def head(self, action: Ints, sample: Ints, available_s: Array) -> tuple[Ints, Mask, Mask]:
        """(cut at which the device answers or sends, whether it answers, whether there was time to get there)."""
        place = self._row[action] + sample
        cut, local = self._cut[place], self._local[place]
        in_time = self.seconds(action, cut) <= available_s
        short = (~in_time).nonzero()[0]
        if len(short):
            split = self._split[action[short]]
            first = self._first_stop[split]
            reachable = self._is_stop[split] & (
                self._times[self._way[action[short]]] <= available_s[short, None]
            )
            reachable[np.arange(len(short)), first] = True
            last = self._depth - reachable[:, ::-1].argmax(axis=1)
            stopped = cut[short] > first
            in_time[short] = ~stopped
            cut[short] = np.where(stopped, last, cut[short])
            local[short] &= ~stopped
        return cut, local, in_time

    def server(self, action: Ints, cut: Ints, sample: Ints) -> tuple[Array, Array, Ints, Array, Mask, Array]:
        """(bytes, their bits on the air without losses, exit that answers on the server, its seconds, whether it is
        right, its margin); of no meaning at full depth.
        """
        config = self._config[action * (self._depth + 1) + cut]
        place = config * self._samples + sample
        answer = self._level[action] + place
        exit = self._server_exit[answer]
        return (
            self._nbytes[place],
            self._bits[place],
            exit,
            self._server_s[self._service[place] + exit],
            self._server_correct[answer],
            self._server_margin[answer],
        )

    def head_answer(self, action: Ints, sample: Ints, exit: Ints) -> tuple[Mask, Array]:
        """(whether the device's exit is right, its margin)."""
        place = sample * self._exits + exit
        if not self._one_way:
            place = place + self._way[action] * (self._samples * self._exits)
        return self._head_correct[place], self._head_margin[place]
