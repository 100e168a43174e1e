"""The device's whole decision logic, once, as a generator of effects.

    decide ─► RunBlocks to the next exit ─► margin high enough ──────────► Answer (local)
                  ▲            │ rises too slowly, or `split` reached
                  └────────────┴─► Offload ─► Reply ─────────────────────► Answer
                                      │    └ not sure ─► Refine ─► Reply ─► Answer
                                      │                     └ none ─────► Answer (the first reply, degraded)
                                      └ none in time, or link down ──────► Answer (local, degraded)

It does no I/O and reads no clock: a driver executes the effects, in virtual time (`sim/`) or in real time
(`device/realtime.py`), and sends back each result with the time. So the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from ..policies.decision import Decision
from ..policies.rules import exits, offloads
from .effects import Answer, Effect, Offload, Reading, Refine, RunBlocks, local_answer, remote_answer

__all__ = ["Agent"]

# With a tuple of all fields: several times cheaper than a NamedTuple's constructor.
_new = tuple.__new__

_KEPT = 1024


class Agent:
    """Runs the requests of one device by given Decisions.

    exits     blocks executed before each exit, ascending; the last is the network's depth
    block_s   seconds that the device needs from the input to each cut: block_s[s] for s blocks with the exits
              on the way, so block_s[0] is 0 and len(block_s) == depth + 1
    slack_s   kept in reserve before the deadline, beside the time to the first exit
    at_keep   block_s at a Decision's keep, for networks whose gates lessen the work; None: it is always the same
    """

    def __init__(
        self,
        exits: Sequence[int],
        block_s: Sequence[float],
        slack_s: float,
        at_keep: Callable[[float], Sequence[float]] | None = None,
    ) -> None:
        self.exits = tuple(exits)
        self.depth = self.exits[-1]
        self.exit_at = {after: exit for exit, after in enumerate(self.exits)}
        self.block_s = tuple(block_s)
        self.slack_s = slack_s
        self._at_keep = at_keep
        self._stops = [
            (*(e for e in self.exits if e < split), split) if split else () for split in range(self.depth + 1)
        ]
        # The same for every request of a split and keep, so they are made once; a keep may be any number, though.
        self.times = lru_cache(_KEPT)(self._times)
        self._plan = lru_cache(_KEPT)(self._planned)

    def _times(self, keep: float) -> tuple[float, ...]:
        """block_s at this keep."""
        return self.block_s if self._at_keep is None or keep == 1.0 else tuple(self._at_keep(keep))

    def stops(self, split: int) -> tuple[int, ...]:
        """Where the device stands still on its way to `split`: at every exit, and there."""
        return self._stops[split]

    def _planned(self, split: int, keep: float) -> tuple[tuple[float, ...], tuple[RunBlocks, ...]]:
        """block_s, and what leads to the split from stop to stop."""
        stops = pairwise((0, *self._stops[split]))
        return self.times(keep), tuple(RunBlocks(start, stop, keep) for start, stop in stops)

    def answer(
        self, decision: Decision, now_s: float, due_s: float, link_up: bool
    ) -> Generator[Effect, Any, Answer]:
        """Answer one request, exactly once.

        now_s: when its turn comes; due_s: its deadline on the same clock; link_up: False to not even try to send.
        """
        keep = decision.keep
        block_s, steps = self._plan(decision.split, keep)
        cut = 0
        reading: Reading | None = None
        in_time = True
        for step in steps:
            stop = step.stop
            if reading is not None and now_s + block_s[stop] - block_s[cut] > due_s - self.slack_s:
                in_time = False
                break
            now_s, found = yield step
            cut = stop
            if found is None:
                continue
            previous, reading = reading, found
            if exits(reading.margin, decision.exit_margin) or cut == self.depth:
                return local_answer(decision, reading, cut, now_s)
            if previous is not None and offloads(reading.margin, previous.margin, decision.offload_slope):
                break
        first = self.exits[0]
        reserve_s = block_s[first] - block_s[cut] if reading is None else 0.0
        answer_by_s = due_s - self.slack_s - reserve_s
        offloaded = link_up and in_time and answer_by_s > now_s
        if offloaded:
            now_s, reply = yield _new(Offload, (cut, decision, answer_by_s))
            if reply is not None:
                if not reply.session:
                    return remote_answer(decision, reply, cut, now_s)
                first = reply
                if refined := answer_by_s > now_s:
                    now_s, reply = yield Refine(cut, decision, answer_by_s, first.session)
                return remote_answer(
                    decision, reply or first, cut, now_s, refined, degraded=reply is None or not refined
                )
        if reading is None:
            now_s, reading = yield RunBlocks(cut, first, keep)
            cut = first
        return local_answer(decision, reading, cut, now_s, offloaded, degraded=True)
