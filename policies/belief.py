"""What a policy that predicts takes its observation for: numbers in place of what is not known yet."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .observation import Observation
from .policy import Outcome
from .predicted import PredictedUtility, Prediction

__all__ = ["EXPLORE_AFTER", "REPORT_SIGMA_DB", "Exploration", "LinkBelief", "believed", "predict"]

_PRIOR_RATE_BPS, _PRIOR_SIGMA_DB = 1e6, 10.0
"""Believed before the first report; one request corrects it."""

REPORT_SIGMA_DB = 1.0
"""Error of a fresh report, as modems give them."""

EXPLORE_AFTER = 4
"""Local answers in a row after which a link of which nothing is heard is tried again."""

_LONGEST = 8


class LinkBelief(NamedTuple):
    """The rate taken as log-normal around rate_bps, and the round trip of an empty message."""

    rate_bps: float
    rate_sigma_db: float
    round_trip_s: float


def believed(observation: Observation) -> LinkBelief:
    """The link by the device's estimate; a link that is down carries next to nothing."""
    rate_bps, sigma_db = observation.rate_bps, observation.rate_sigma_db
    if not observation.link_up:
        rate_bps, sigma_db = 1.0, 0.0
    elif math.isnan(rate_bps):
        rate_bps, sigma_db = _PRIOR_RATE_BPS, _PRIOR_SIGMA_DB
    round_trip_s = 0.0 if math.isnan(observation.round_trip_s) else observation.round_trip_s
    return LinkBelief(rate_bps, math.hypot(sigma_db, REPORT_SIGMA_DB), round_trip_s)


def predict(predicted: PredictedUtility, observation: Observation) -> Prediction:
    """What the candidates give and cost under this observation."""
    return predicted.expect(*believed(observation), observation.time_left_s, observation.device_queue)


class Exploration:
    """Local answers bring no report of the link: after `after` in a row, something must be sent again.

    So a device which once met a bad link does not stay away from it for ever. Each try of which nothing follows makes
    the wait for the next one twice as long, up to `_LONGEST` times: a link may be bad for good, and tries cost airtime.
    Infinite `after`: never, as where the modem measures the link by itself.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._unsent, self._wait, self._trying = 0, after, False

    def best(self, values: np.ndarray, sends: np.ndarray, link_up: bool, *, affordable: bool = True) -> int:
        """Index of the best candidate; of the best that sends, where it is time to.

        Where that is not `affordable`, it is time after the longest wait only.
        """
        best = int(values.argmax())
        self._trying = False
        wait = self._wait if affordable else _LONGEST * self._after
        if link_up and self._unsent >= wait and not sends[best] and sends.any():
            self._trying = True
            best = int(np.where(sends, values, -np.inf).argmax())
        return best

    def learn(self, outcome: Outcome) -> None:
        if not outcome.offloaded:
            self._unsent += 1
            return
        self._unsent = 0
        self._wait = min(2 * self._wait, _LONGEST * self._after) if self._trying else self._after

    def reset(self) -> None:
        self._unsent, self._wait, self._trying = 0, self._after, False
