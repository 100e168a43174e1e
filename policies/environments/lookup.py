"""The tables one element at a time, as plain numbers: what a single environment asks of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .actions import Actions
from .tables import Tables

__all__ = ["Lookup"]


def _flat(array: np.ndarray) -> Any:
    # Items of a memoryview are Python numbers, at a third of the time that numpy's scalars take.
    return memoryview(np.ascontiguousarray(array).reshape(-1))  # type: ignore[arg-type]


class Lookup:
    """Actions are flat indices; cuts are blocks executed on the device.

    first      blocks before the first exit
    times      for every action the seconds to every cut
    passed     last exit at or before a cut, the first where none is
    """

    def __init__(self, tables: Tables, actions: Actions) -> None:
        times: list[list[float]] = tables.block_s.tolist()
        ways: list[int] = tables.way.tolist()
        self.times = [times[way] for way in ways]
        self._head_place = [way * tables.samples * len(tables.exits) for way in ways]
        self.passed: list[int] = tables.passed.tolist()
        self.first = tables.exits[0]
        self._stops = [tables.stops[split] for split in actions.splits.tolist()]
        self._samples = tables.samples
        self._exit_count = len(tables.exits)
        self._head_row: list[int] = (tables.head_row * tables.samples).tolist()
        self._plan = _flat(tables.plan)
        self._head_correct = _flat(tables.head_correct)
        self._head_margin = _flat(tables.head_margin)
        self._depth = tables.depth
        self._config = _flat(tables.config)
        self._level: list[int] = (tables.level * tables.nbytes.size).tolist()
        self._nbytes = _flat(tables.nbytes)
        self._server_exit = _flat(tables.server_exit)
        self._server_correct = _flat(tables.server_correct)
        self._server_margin = _flat(tables.server_margin)
        self._service = _flat(tables.service)
        self._server_s: list[list[float]] = tables.server_s.tolist()

    def head(self, action: int, sample: int, available_s: float) -> tuple[int, bool, bool]:
        """(cut at which the device answers or sends, whether it answers, whether there was time to get there).

        available_s: until it must have answered. With a first reading in hand the agent stops at the last exit
        that it can reach.
        """
        plan = self._plan[self._head_row[action] + sample]
        cut, local = plan >> 1, plan & 1 == 1
        block_s = self.times[action]
        if block_s[cut] <= available_s:
            return cut, local, True
        stops = self._stops[action]
        reached = stops[0] if stops else 0
        if cut <= reached:
            return cut, local, True
        for stop in stops:
            if block_s[stop] > available_s:
                break
            reached = stop
        return max(reached, stops[0]), False, False

    def server(self, action: int, cut: int, sample: int) -> tuple[int, int, float]:
        """(bytes of the request, exit that answers on the server, seconds that it works)."""
        config = self._config[action * self._depth + cut]
        place = config * self._samples + sample
        exit = self._server_exit[self._level[action] + place]
        return self._nbytes[place], exit, self._server_s[self._service[place]][exit]

    def server_answer(self, action: int, cut: int, sample: int) -> tuple[bool, float]:
        """(whether the server's answer is right, its margin)."""
        place = self._level[action] + self._config[action * self._depth + cut] * self._samples + sample
        return self._server_correct[place], self._server_margin[place]

    def head_answer(self, action: int, sample: int, exit: int) -> tuple[bool, float]:
        """The same of an exit on the device."""
        place = self._head_place[action] + sample * self._exit_count + exit
        return self._head_correct[place], self._head_margin[place]
