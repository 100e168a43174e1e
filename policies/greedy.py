"""Greedy: the Decision with the best predicted utility for this request, under the estimated rate."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from ..models.profile import Profile
from .decision import Decision
from .deployment import Deployment
from .observation import Observation
from .policy import Outcome
from .predicted import PredictedUtility

__all__ = ["Greedy", "GreedyTables", "grid_decisions"]

_PRIOR_RATE_BPS, _PRIOR_SIGMA_DB = 1e6, 10.0
"""Believed before the first report; one request corrects it."""

_REPORT_SIGMA_DB = 1.0
"""Error of a fresh report, as modems give them."""


def grid_decisions(profile: Profile, exit_margins: tuple[float, ...]) -> list[Decision]:
    """Every Decision on the Profile's grid, times the given exit margins.

    Cut 0 has no compression to choose, all local neither.
    """
    depth = profile.card.depth
    decisions = []
    for margin in exit_margins:
        decisions += [Decision(0, exit_margin=margin), Decision(depth, exit_margin=margin)]
        decisions += [
            Decision(cut, keep, dims, bits, exit_margin=margin)
            for cut, keep, dims, bits in product(
                (c for c in profile.cuts if 0 < c < depth), profile.keeps, profile.dims, profile.bits
            )
        ]
    return decisions


class Greedy:
    """Evaluates the candidates that are the best ones somewhere, and takes the best one here.

    explore_after   local answers bring no report of the link: after so many in a row the best Decision that sends
                    is taken, so that a device which once met a bad link does not stay away from it for ever
    """

    def __init__(self, tables: GreedyTables, explore_after: int = 4) -> None:
        self._tables = tables
        self._explore_after = explore_after
        self._unsent = 0

    def decide(self, observation: Observation) -> Decision:
        predicted = self._tables.predicted
        rate_bps, sigma_db = observation.rate_bps, observation.rate_sigma_db
        if not observation.link_up:
            rate_bps, sigma_db = 1.0, 0.0
        elif math.isnan(rate_bps):
            rate_bps, sigma_db = _PRIOR_RATE_BPS, _PRIOR_SIGMA_DB
        round_trip_s = 0.0 if math.isnan(observation.round_trip_s) else observation.round_trip_s
        sigma_db = math.hypot(sigma_db, _REPORT_SIGMA_DB)
        values = predicted.at(
            rate_bps, sigma_db, round_trip_s, observation.time_left_s, observation.device_queue
        )
        if observation.link_up and self._unsent >= self._explore_after:
            values = np.where(predicted.sends, values, -np.inf)
        return predicted.candidates[int(values.argmax())]

    def learn(self, outcome: Outcome) -> None:
        self._unsent = 0 if outcome.offloaded else self._unsent + 1

    def reset(self, seed: int) -> None:
        self._unsent = 0


class GreedyTables:
    """What the Greedy policies of equal devices share: the predictions of the candidates that win somewhere."""

    def __init__(self, profile: Profile, deployment: Deployment, exit_margins: tuple[float, ...]) -> None:
        everything = PredictedUtility(profile, grid_decisions(profile, exit_margins), deployment)
        self.predicted = everything.keep(_best_somewhere(everything, deployment.weights.deadline_s))


def _best_somewhere(predicted: PredictedUtility, deadline_s: float) -> list[int]:
    """Candidates that win at some rate, time left and queue: the others need not be looked at again."""
    winners = {
        int(predicted.at(rate_bps, sigma_db, round_trip_s, part * deadline_s, queue).argmax())
        for rate_bps in [1.0, *np.logspace(3, 9, 25).tolist()]
        for sigma_db in (_REPORT_SIGMA_DB, 6.0)
        for round_trip_s in (0.0, 0.1 * deadline_s)
        for part in (0.25, 0.5, 1.0)
        for queue in (0, 4)
    }
    # Exploration needs one that always sends; the cheapest to send and try is the best sender on a good link.
    sure = predicted.at(1e9, _REPORT_SIGMA_DB, 0.0, deadline_s, 0)
    return sorted(winners | {int(np.where(predicted.sends, sure, -np.inf).argmax())})
