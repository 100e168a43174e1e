"""Predicted utility of many Decisions at once, as a function of what is observed.

Built from the calibration Profile: every candidate is walked over its samples, and samples that take the same
way (local at this exit; sent from this cut, answered at that exit) are merged into one row of means. A
prediction is then arithmetic on a few rows a candidate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..channel.rate import wire_bytes
from ..models.macs import block_macs, embed_macs, exit_macs
from ..models.profile import Profile
from .decision import Decision
from .deployment import Deployment
from .outcomes import walk
from .rules import energy_j, utility

__all__ = ["PredictedUtility"]

_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_QUADRATURE = list(zip(_POINTS.tolist(), (_WEIGHTS / _WEIGHTS.sum()).tolist(), strict=True))
"""Points and weights for a mean over a standard normal variable."""


class PredictedUtility:
    """Expected utility of each candidate for given rate, round trip, time left and queue."""

    def __init__(
        self,
        profile: Profile,
        candidates: Sequence[Decision],
        deployment: Deployment,
    ) -> None:
        profile.require("calibration")
        self.candidates = list(candidates)
        self._deployment = deployment
        rows = [_rows(profile, decision, deployment) for decision in self.candidates]
        self._starts = np.cumsum([0, *(len(r) for r in rows[:-1])])
        columns = np.concatenate(rows).T
        (
            self._weight, self._offloaded, self._correct, self._head_s, self._up, self._down, self._server_s,
            self._fallback_correct, self._fallback_s, self._reserve_s,
        ) = columns  # fmt: skip

    def keep(self, chosen: Sequence[int]) -> PredictedUtility:
        """The same for some of the candidates only."""
        smaller = object.__new__(PredictedUtility)
        smaller.candidates = [self.candidates[i] for i in chosen]
        smaller._deployment = self._deployment
        ends = [*self._starts[1:].tolist(), len(self._weight)]
        spans = [np.arange(self._starts[i], ends[i]) for i in chosen]
        smaller._starts = np.cumsum([0, *(len(span) for span in spans[:-1])])
        rows = np.concatenate(spans)
        for name, values in vars(self).items():
            if name not in ("candidates", "_deployment", "_starts"):
                setattr(smaller, name, values[rows])
        return smaller

    def at(
        self, rate_bps: float, rate_sigma_db: float, round_trip_s: float, time_left_s: float, queue: int
    ) -> np.ndarray:
        """Expected utility, float64 (candidates,), of a request whose deadline is `time_left_s` away.

        The rate is log-normal with that spread, so that a Decision which would be late at a somewhat lower rate is
        not mistaken for a good one.

        Each of the `queue` requests behind it waits for as long as this one takes: their lost latency counts.
        """
        d = self._deployment
        total = np.zeros(len(self._weight))
        answer_by_s = time_left_s - d.slack_s - self._reserve_s
        for point, weight in _QUADRATURE:
            factor = 10.0 ** (0.1 * rate_sigma_db * point)
            up_s, down_s = self._up / (rate_bps * factor), self._down / (rate_bps * factor)
            wait_s = self._offloaded * (round_trip_s + d.overhead_s) + self._server_s
            latency_s = self._head_s + up_s + down_s + wait_s
            lost = (self._offloaded > 0) & (latency_s > answer_by_s)
            tried_s = np.maximum(0.0, answer_by_s - self._head_s)
            energy = np.where(
                lost,
                energy_j(d.power, self._fallback_s, tried_s, 0.0, 0.0),
                energy_j(d.power, self._head_s, up_s, down_s, wait_s),
            )
            airtime_s = np.where(lost, tried_s, up_s + down_s)
            latency_s = np.where(lost, np.maximum(self._head_s, answer_by_s) + self._reserve_s, latency_s)
            correct = np.where(lost, self._fallback_correct, self._correct)
            late = (latency_s > time_left_s).astype(float)
            value = utility(correct, latency_s, energy, airtime_s, late, d.weights)
            value -= d.weights.latency * queue * latency_s / d.weights.deadline_s
            total += weight * value
        return np.add.reduceat(total * self._weight, self._starts)


def _rows(profile: Profile, decision: Decision, deployment: Deployment) -> np.ndarray:
    """One row for each way that samples take, float64 (ways, 10), columns as in PredictedUtility."""
    card = profile.card
    block_s = np.array(deployment.block_s)
    outcomes = walk(profile, decision)
    correct = outcomes.prediction == profile.labels
    fallback = outcomes.fallback == profile.labels
    ways = np.stack([outcomes.local, outcomes.cut, outcomes.exit], axis=1)
    rows = []
    for local, cut, exit in np.unique(ways, axis=0).tolist():
        here = (ways == (local, cut, exit)).all(axis=1)
        sent = not local
        nbytes = outcomes.nbytes[here].mean()
        fallback_cut = max(cut, card.exits[0])
        rows.append(
            (
                here.mean(),
                float(sent),
                correct[here].mean(),
                block_s[cut],
                8.0 * wire_bytes(round(nbytes)) if sent else 0.0,
                8.0 * wire_bytes(profile.reply_bytes) if sent else 0.0,
                _server_s(profile, cut, exit, int(outcomes.tokens[here][0]), deployment) if sent else 0.0,
                fallback[here].mean(),
                block_s[fallback_cut],
                block_s[fallback_cut] - block_s[cut],
            )
        )
    return np.array(rows)


def _server_s(profile: Profile, cut: int, exit: int, tokens: int, deployment: Deployment) -> float:
    """Seconds on an idle server from the cut to the exit."""
    card = profile.card
    macs, segments = (embed_macs(card) if cut == 0 else 0), 0
    start = cut
    for after in card.exits[: exit + 1]:
        if after > cut:
            macs += (after - start) * block_macs(card, tokens) + exit_macs(card)
            start, segments = after, segments + 1
    return segments * deployment.server_base_s + macs / deployment.server_macs_per_s
