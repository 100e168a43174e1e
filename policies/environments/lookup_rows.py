"""The tables for N copies at once: `lookup.Lookup` on arrays.

    action, sample ─► plan ─┐
                            ├─► the smaller: a stage ─► cut, seconds, what follows
    action, time left ─► limit

A stage is where and how the device ends its own work, as one number: 4 · cut, and one of _SENDS, _ANSWERS, or
_STOPS, for who has no time to go on. So the limit, which is _STOPS at the last cut in time, cuts a plan short just
by being smaller. Each keep of a network with gates has stages of its own, for it has times of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .actions import Actions
from .bank import lossless_bits
from .tables import Tables

__all__ = ["Heads", "LookupRows", "Requests"]

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Array = NDArray[np.float64]

_SENDS, _ANSWERS, _STOPS = 1, 2, 3

# Together, for one look into a large table costs as much as the next.
_ANSWER = np.dtype(
    [("nbytes", "i4"), ("service", "i4"), ("margin", "f4"), ("exit", "i1"), ("correct", "?")], align=True
)


class Heads(NamedTuple):
    """What N devices do by themselves.

    cut, fallen_cut    where they end, and where if they have to answer there: at the first exit at least
    seconds            to the cut
    fall_s             from there to the first exit, for who falls back; 0 for who answers
    sends, answers     whether they want to send, or answer as planned
    answer             place of the device's answer
    """

    cut: Ints
    fallen_cut: Ints
    seconds: Array
    fall_s: Array
    sends: Mask
    answers: Mask
    answer: Ints


class Requests(NamedTuple):
    """What N devices would send: bytes, their bits on the air without losses, the server's seconds, its answer."""

    nbytes: Ints
    bits: Array
    seconds: Array
    answer: Ints


class LookupRows:
    """Actions are flat indices (N,), samples (N,)."""

    def __init__(self, tables: Tables, actions: Actions) -> None:
        depth, exits, samples = tables.depth, len(tables.exits), tables.samples
        self.longest_s = float(tables.block_s.max())
        self._exits = exits
        self._times = tables.block_s
        ways, stages = len(tables.block_s), 4 * (depth + 1)
        # Of every stage, those of one way after the other.
        cut = np.tile(np.arange(depth + 1).repeat(4), ways)
        kind = np.tile(np.arange(4), ways * (depth + 1))
        self._cut, self._fallen_cut = cut, np.maximum(cut, tables.exits[0])
        self._seconds = tables.block_s.repeat(4)
        fall_s = np.maximum(tables.block_s[:, tables.exits[:1]] - tables.block_s, 0.0)
        self._fall_s = fall_s.repeat(4) * (kind != _ANSWERS)
        self._sends, self._answers = kind == _SENDS, kind == _ANSWERS
        # Plans and limits by the actions' rows of heads; rows of one way have its stages.
        way = np.zeros(len(tables.plan), np.int64)
        way[tables.head_row] = stages * tables.way
        split = np.zeros(len(tables.plan), np.int64)
        split[tables.head_row] = actions.splits
        plan = tables.plan.astype(np.int64)
        plan = 4 * (plan >> 1) + np.where(plan & 1, _ANSWERS, _SENDS)
        self._plan = (plan + way[:, None]).reshape(-1)
        limits = np.array([_last_stops(stops, depth) for stops in tables.stops])
        self._limit = (4 * limits[split] + _STOPS + way[:, None]).reshape(-1)
        # What is sent, by grid point and sample; and by exit margin too, what the server does with it. All local
        # sends nothing and is looked up in vain.
        config = np.concatenate([tables.config, tables.config[:, -1:]], axis=1)
        # Many actions send alike: one small table of all ways to send stays near the processor.
        config, alike = np.unique(config, axis=0, return_inverse=True)
        self._config = np.maximum(config, 0).astype(np.int64).reshape(-1) * samples
        self._bits = lossless_bits(np.arange(int(tables.nbytes.max()) + 1))
        self._server_s = tables.server_s.reshape(-1)
        # Answers: the server's, then the devices' by way, sample and exit.
        answers = np.zeros(tables.server_exit.size + tables.head_correct.size, _ANSWER)
        server = answers[: tables.server_exit.size].reshape(tables.server_exit.shape)
        server["nbytes"] = tables.nbytes
        server["service"] = tables.service * exits + tables.server_exit
        server["exit"], server["correct"] = tables.server_exit, tables.server_correct
        server["margin"] = tables.server_margin
        head = answers[tables.server_exit.size :].reshape(tables.head_correct.shape)
        head["exit"], head["correct"] = np.arange(exits), tables.head_correct
        head["margin"] = tables.head_margin
        # As two numbers each, which are taken much faster than records.
        self._answer = answers.view(np.float64).reshape(len(answers), -1)
        self._head_answer = (
            tables.server_exit.size + np.arange(ways)[:, None] * (samples * exits) + tables.passed
        ).repeat(4)
        # Where each action's entries begin: in plans, in limits, in grid points, among the exit margins.
        self._begins = np.stack(
            [
                tables.head_row * samples,
                tables.head_row * (depth + 2),
                alike.reshape(-1) * (depth + 1),  # NumPy 2.0.0 gives it the axes of `config`
                tables.level * tables.nbytes.size,
            ],
            axis=1,
        )
        self._way = tables.way

    def look_up(self, action: Ints, sample: Ints, available_s: Array) -> tuple[Heads, Requests]:
        """available_s: until the devices must have answered, from the begin of their work. Requests are of no
        meaning where nothing is sent.
        """
        begins = self._begins.take(action, axis=0, mode="clip")
        limit = self._limit[begins[:, 1] + self._in_time(action, available_s)]
        stage = np.minimum(self._plan[begins[:, 0] + sample], limit)
        cut = self._cut[stage]
        place = self._config[begins[:, 2] + cut] + sample
        place += begins[:, 3]
        server = self._answers_at(place)
        nbytes = server["nbytes"].astype(np.int64)
        heads = Heads(
            cut,
            self._fallen_cut[stage],
            self._seconds[stage],
            self._fall_s[stage],
            self._sends[stage],
            self._answers[stage],
            self._head_answer[stage] + sample * self._exits,
        )
        return heads, Requests(
            nbytes, self._bits[nbytes], self._server_s[server["service"].astype(np.int64)], place
        )

    def answers(self, place: Ints) -> tuple[NDArray[np.int8], Mask, Array]:
        """(exit that answers, whether it is right, its margin), by the answers' places."""
        found = self._answers_at(place)
        return found["exit"], found["correct"], found["margin"].astype(np.float64)

    def _answers_at(self, place: Ints) -> NDArray[np.void]:
        return self._answer.take(place, axis=0, mode="clip").view(_ANSWER)[:, 0]

    def _in_time(self, action: Ints, available_s: Array) -> Ints:
        """How many cuts, from that before all blocks on, are reached in time."""
        if len(self._times) == 1:
            return self._times[0].searchsorted(available_s, side="right")
        return np.count_nonzero(self._times[self._way[action]] <= available_s[:, None], axis=1)


def _last_stops(stops: tuple[int, ...], depth: int) -> list[int]:
    """By the number of cuts in time the last stop among them; a first stop is gone to in any case."""
    first = stops[0] if stops else 0
    return [max((stop for stop in stops if stop < count), default=first) for count in range(depth + 2)]
