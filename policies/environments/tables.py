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
from ..service_time import Pace, block_times, next_exit, segment_time, segments, times_at_keep
from .actions import Actions
from .config import EnvironmentConfig

__all__ = ["Tables"]


class Tables:
    """Arrays over A actions, S samples, E exits, G grid points, H different ways on the device, M exit margins.

    K is the number of keeps, for a network whose gates drop patches on the device; 1 for others.

    head_row, level, way    int64 (A,): row of `plan`, index of the exit margin, index into K
    plan              int8 (H, S): 2 · cut + 1 where an exit on the device answers, else 2 · cut
    config            int32 (A, depth): grid point for each cut
    head_correct      bool (K, S, E); head_margin float64 (K, S, E)
    nbytes            int32 (G, S), serialised request
    server_exit       int8 (M, G, S), exit that answers on the server
    server_correct    bool (M, G, S); server_margin float32 (M, G, S)
    service           int32 (G, S), row of `server_s`
    server_s          float64 (rows, E): seconds that an idle server works up to this exit
    block_s           float64 (K, depth + 1): seconds on the device to each cut
    passed            int8 (depth + 1,): index of the last exit at or before the cut, the first where none is
    stops             for each split, the cuts at which the agent may stop, ascending
    """

    def __init__(self, config: EnvironmentConfig, profile: Profile, actions: Actions) -> None:
        profile.require("calibration")
        card, decisions = profile.card, actions.decisions
        self.samples = len(profile)
        self.exits, self.depth = card.exits, card.depth
        self.reply_bytes = profile.reply_bytes
        self.passed: NDArray[np.int8] = np.maximum(
            np.searchsorted(card.exits, np.arange(card.depth + 1), side="right") - 1, 0
        ).astype(np.int8)
        self.stops = [
            (*(after for after in card.exits if after < split), split) if split else ()
            for split in range(card.depth + 1)
        ]
        # Without gates a keep chooses only what is sent.
        keeps = [d.keep if card.gates else 1.0 for d in decisions]
        ways = {keep: place for place, keep in enumerate(dict.fromkeys(keeps))}
        self.way = np.array([ways[keep] for keep in keeps])
        times = block_times(card, config.macs_per_s)
        self.block_s: NDArray[np.float64] = np.array([times_at_keep(card, times, keep) for keep in ways])
        heads = [
            (d.split, d.exit_margin, d.offload_slope, keep) for d, keep in zip(decisions, keeps, strict=True)
        ]
        head_rows = {head: row for row, head in enumerate(dict.fromkeys(heads))}
        self.plan = np.empty((len(head_rows), self.samples), np.int8)
        for head, row in head_rows.items():
            ends = walk_head(profile, *head)
            self.plan[row] = 2 * ends.cut + ends.local
        self.head_row = np.array([head_rows[head] for head in heads])
        levels = {margin: i for i, margin in enumerate(dict.fromkeys(d.exit_margin for d in decisions))}
        self.level = np.array([levels[d.exit_margin] for d in decisions])
        self.config = _configs(profile, actions)
        samples, truth = np.arange(self.samples), profile.labels
        answers = [profile.head(keep) for keep in ways]
        self.head_correct = np.array([prediction == truth[:, None] for prediction, _ in answers])
        self.head_margin = np.array([margin.astype(float) for _, margin in answers])
        self.nbytes = profile.request_bytes
        shape = (len(levels), *profile.request_bytes.shape)
        self.server_exit = np.empty(shape, np.int8)
        self.server_correct = np.empty(shape, bool)
        self.server_margin = np.empty(shape, np.float32)
        self.service, self.server_s = _services(profile, config.server)
        for place, (cut, *_) in enumerate(profile.grid.points()):
            for margin, level in levels.items():
                exit = answering_exits(profile.tail_margin[place], next_exit(card, cut), margin)
                self.server_exit[level, place] = exit
                self.server_correct[level, place] = profile.tail_prediction[place][samples, exit] == truth
                self.server_margin[level, place] = profile.tail_margin[place][samples, exit]

    def reach_s(self, config: EnvironmentConfig) -> list[float]:
        """For each cut, the time left at a request's turn beyond which the agent can still send from it."""
        # The quickest way counts: a mask may allow what one keep of several cannot do.
        block_s = self.block_s.min(axis=0)
        kept_s = config.slack_s + config.overhead_s
        return (np.maximum(block_s, block_s[self.exits[0]]) + kept_s).tolist()


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


def _services(profile: Profile, pace: Pace) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """For every grid point and sample the row of its service times, and the rows: one a cut and number of tokens."""
    known: dict[tuple[int, int], int] = {}
    rows: list[NDArray[np.float64]] = []
    service = np.empty(profile.tokens.shape, np.int32)
    for place, (cut, *_) in enumerate(profile.grid.points()):
        counts, inverse = np.unique(profile.tokens[place], return_inverse=True)
        for tokens in counts.tolist():
            if (cut, tokens) not in known:
                known[cut, tokens] = len(rows)
                rows.append(_server_s(profile, cut, tokens, pace))
        service[place] = np.array([known[cut, tokens] for tokens in counts.tolist()])[inverse]
    return service, np.array(rows)


def _server_s(profile: Profile, cut: int, tokens: int, pace: Pace) -> NDArray[np.float64]:
    """Seconds from the cut to every exit behind it, (E,); 0 for those before."""
    seconds, total = np.zeros(len(profile.card.exits)), 0.0
    for step in segments(profile.card, cut, tokens):
        total += segment_time(pace, 1, step.macs)
        seconds[step.exit] = total
    return seconds
