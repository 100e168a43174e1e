"""Predicted utility of many Decisions at once, as a function of what is observed.

Built from the calibration Profile: every candidate is walked over its samples, and samples that take the same
way (local at this exit; sent from this cut, answered at that exit) are merged into one row of means. A
prediction is then arithmetic on a few rows a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..channel.rate import wire_bytes
from ..models.card import ModelCard
from ..models.profile import Profile
from .decision import Decision
from .deployment import Deployment
from .outcomes import walk
from .rules import energy_j, utility
from .service_time import Pace, segment_time, segments, times_at_keep

__all__ = ["PredictedUtility", "Prediction", "server_seconds"]

_LOGISTIC = 1.702
"""Scale at which a logistic distribution comes nearest to a normal one; its tails are heavier, as a fade's are."""


class Prediction(NamedTuple):
    """Means for each candidate, float64 (candidates,); latency from the moment of the decision."""

    utility: np.ndarray
    latency_s: np.ndarray
    energy_j: np.ndarray
    airtime_s: np.ndarray


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

    @property
    def deadline_s(self) -> float:
        """Of the deployment that it predicts for."""
        return self._deployment.weights.deadline_s

    @property
    def sends(self) -> np.ndarray:
        """Candidates that send more than half of the requests, bool (candidates,)."""
        return np.asarray(np.add.reduceat(self._offloaded * self._weight, self._starts) > 0.5)

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

    def expect(
        self, rate_bps: float, rate_sigma_db: float, round_trip_s: float, time_left_s: float, queue: int
    ) -> Prediction:
        """What each candidate gives and costs for a request whose deadline is `time_left_s` away.

        The rate is log-normal with that spread, so that a Decision which would be late at a somewhat lower rate is
        not mistaken for a good one.

        Each of the `queue` requests behind it waits for as long as this one takes: their lost latency counts.
        A measured round trip includes codec and RPC, so that `overhead_s` is but the least that it can be.
        """
        d = self._deployment
        answer_by_s = time_left_s - d.slack_s - self._reserve_s
        round_trip_s = max(round_trip_s, d.overhead_s)
        other_s = self._head_s + self._offloaded * round_trip_s + self._server_s
        bits, budget_s = self._up + self._down, answer_by_s - other_s
        sigma = max(rate_sigma_db, 0.1) * math.log(10.0) / 10.0
        # No reply in time: the rate is below bits / budget_s.
        with np.errstate(divide="ignore", over="ignore"):
            least_bps = np.where(budget_s > 0.0, bits / np.maximum(budget_s, 1e-9), np.inf)
            lost = self._offloaded / (1.0 + (rate_bps / least_bps) ** (_LOGISTIC / sigma))
        # The mean of 1 / rate over the log-normal rate, as far as the reply is in time at all.
        on_air_s = np.minimum(
            bits * (math.exp(min(0.5 * sigma * sigma, 50.0)) / rate_bps), np.maximum(budget_s, 0.0)
        )
        up_s = on_air_s * self._up / np.maximum(bits, 1.0)
        energy = energy_j(d.power, self._head_s, up_s, on_air_s - up_s, other_s - self._head_s)
        replied = _case(self._correct, other_s + on_air_s, energy, on_air_s, time_left_s)
        tried_s = np.maximum(0.0, answer_by_s - self._head_s)
        energy = energy_j(d.power, self._fallback_s, tried_s, 0.0 * tried_s, 0.0 * tried_s)
        fallen_s = np.maximum(self._head_s, answer_by_s) + self._reserve_s
        fallen_back = _case(self._fallback_correct, fallen_s, energy, tried_s, time_left_s)
        means = np.add.reduceat(
            ((1.0 - lost) * replied + lost * fallen_back) * self._weight, self._starts, axis=1
        )
        correct, latency_s, energy, airtime_s, late = means
        value = utility(correct, latency_s, energy, airtime_s, late, d.weights)
        value = value - d.weights.latency * queue * latency_s / d.weights.deadline_s
        return Prediction(value, latency_s, energy, airtime_s)


def _case(
    correct: np.ndarray, latency_s: np.ndarray, energy: np.ndarray, airtime_s: np.ndarray, time_left_s: float
) -> np.ndarray:
    """(5, rows): what the utility is made of."""
    return np.stack([correct, latency_s, energy, airtime_s, latency_s > time_left_s])


def _rows(profile: Profile, decision: Decision, deployment: Deployment) -> np.ndarray:
    """One row for each way that samples take, float64 (ways, 10), columns as in PredictedUtility."""
    card = profile.card
    block_s = np.array(times_at_keep(card, deployment.block_s, decision.keep))
    outcomes = walk(profile, decision)
    correct = outcomes.prediction == profile.labels
    fallback = outcomes.fallback == profile.labels
    exits = len(card.exits)
    ways = (outcomes.cut * exits + outcomes.exit) * 2 + outcomes.local
    rows = []
    for way in np.unique(ways).tolist():
        here = ways == way
        sent = way % 2 == 0
        cut, exit = divmod(way // 2, exits)
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
                _mean_server_seconds(card, cut, exit, outcomes.tokens[here], deployment.server)
                if sent
                else 0.0,
                fallback[here].mean(),
                block_s[fallback_cut],
                block_s[fallback_cut] - block_s[cut],
            )
        )
    return np.array(rows)


def _mean_server_seconds(card: ModelCard, cut: int, exit: int, tokens: np.ndarray, pace: Pace) -> float:
    counts, samples = np.unique(tokens, return_counts=True)
    seconds = [server_seconds(card, cut, exit, int(count), pace) for count in counts]
    return float(np.average(seconds, weights=samples))


def server_seconds(card: ModelCard, cut: int, exit: int, tokens: int, pace: Pace) -> float:
    """Seconds on an idle server from the cut to the exit."""
    steps = segments(card, cut, tokens)
    return sum(segment_time(pace, 1, step.macs) for step in steps if step.exit <= exit)
