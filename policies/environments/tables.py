"""What every action does to every sample, looked up: the walk of `outcomes.py` for a whole action space.

action ─► head row ─┐                         ┌─► server exit ─► correct, seconds
                    ├─► cut, local ─► config ─┤
sample ─────────────┘                         └─► bytes
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...models.profile import Profile
from ..outcomes import answering_exits, walk_head
from ..service_time import Pace, block_times, next_exit, segment_time, segments
from .actions import Actions
from .config import EnvironmentConfig

__all__ = ["Tables"]


class Tables:
    """Arrays over A actions, S samples, E exits, G grid points, H different ways on the device, M exit margins.

    head_row, level   int64 (A,): row of `plan`, index of the exit margin
    plan              int8 (H, S): 2 · cut + 1 where an exit on the device answers, else 2 · cut
    config            int32 (A, depth): grid point for each cut
    head_correct      bool (S, E); head_margin float64 (S, E)
    nbytes            int32 (G, S), serialised request
    server_exit       int8 (M, G, S), exit that answers on the server
    server_correct    bool (M, G, S); server_margin float32 (M, G, S)
    server_s          float64 (G, E): seconds that an idle server works up to this exit
    block_s           float64 (depth + 1,): seconds on the device to each cut
    passed            int8 (depth + 1,): index of the last exit at or before the cut, the first where none is
    stops             for each split, the cuts at which the agent may stop, ascending
    """

    def __init__(self, config: EnvironmentConfig, profile: Profile, actions: Actions) -> None:
        profile.require("calibration")
        card, decisions = profile.card, actions.decisions
        self.samples = len(profile)
        self.exits, self.depth = card.exits, card.depth
        self.reply_bytes = profile.reply_bytes
        self.block_s: NDArray[np.float64] = np.array(block_times(card, config.macs_per_s))
        self.passed: NDArray[np.int8] = np.maximum(
            np.searchsorted(card.exits, np.arange(card.depth + 1), side="right") - 1, 0
        ).astype(np.int8)
        self.stops = [
            (*(after for after in card.exits if after < split), split) if split else ()
            for split in range(card.depth + 1)
        ]
        heads = {(d.split, d.exit_margin, d.offload_slope): 0 for d in decisions}
        self.plan = np.empty((len(heads), self.samples), np.int8)
        for row, head in enumerate(heads):
            ends = walk_head(profile, *head)
            self.plan[row] = 2 * ends.cut + ends.local
            heads[head] = row
        levels = {margin: i for i, margin in enumerate(dict.fromkeys(d.exit_margin for d in decisions))}
        self.head_row = np.array([heads[d.split, d.exit_margin, d.offload_slope] for d in decisions])
        self.level = np.array([levels[d.exit_margin] for d in decisions])
        self.config = _configs(profile, actions)
        samples, truth = np.arange(self.samples), profile.labels
        self.head_correct = profile.head_prediction == truth[:, None]
        self.head_margin = profile.head_margin.astype(float)
        self.nbytes = profile.request_bytes
        shape = (len(levels), *profile.request_bytes.shape)
        self.server_exit = np.empty(shape, np.int8)
        self.server_correct = np.empty(shape, bool)
        self.server_margin = np.empty(shape, np.float32)
        self.server_s = np.zeros((shape[1], len(card.exits)))
        counts = profile.tokens.reshape(shape[1], -1)[:, 0].tolist()
        for place, ((cut, *_), tokens) in enumerate(zip(profile.grid.points(), counts, strict=True)):
            self.server_s[place] = _server_s(profile, cut, tokens, config.server)
            for margin, level in levels.items():
                exit = answering_exits(profile.tail_margin[place], next_exit(card, cut), margin)
                self.server_exit[level, place] = exit
                self.server_correct[level, place] = profile.tail_prediction[place][samples, exit] == truth
                self.server_margin[level, place] = profile.tail_margin[place][samples, exit]

    def reach_s(self, config: EnvironmentConfig) -> list[float]:
        """For each cut, the time left at a request's turn beyond which the agent can still send from it."""
        first_s = float(self.block_s[self.exits[0]])
        kept_s = config.slack_s + config.overhead_s
        return [max(block_s, first_s) + kept_s for block_s in self.block_s.tolist()]


def _configs(profile: Profile, actions: Actions) -> NDArray[np.int32]:
    """Grid point of every action at every cut at which it may send; GridError where one was not measured."""
    depth = profile.card.depth
    known: dict[tuple[int, float, int, int], int] = {}
    configs = np.full((len(actions.decisions), depth), -1, np.int32)
    for row, decision in enumerate(actions.decisions):
        places = {decision.split, *(after for after in profile.card.exits if 0 < after <= decision.split)}
        for cut in places - {depth}:
            key = (cut, decision.keep, decision.dims, decision.bits)
            if key not in known:
                known[key] = profile.config(*key)
            configs[row, cut] = known[key]
    return configs


def _server_s(profile: Profile, cut: int, tokens: int, pace: Pace) -> NDArray[np.float64]:
    """Seconds from the cut to every exit behind it, (E,); 0 for those before."""
    seconds, total = np.zeros(len(profile.card.exits)), 0.0
    for step in segments(profile.card, cut, tokens):
        total += segment_time(pace, 1, step.macs)
        seconds[step.exit] = total
    return seconds
