"""What an oracle knows of every sample: all the ways it can go, and how likely each answer is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..models.profile import Profile
from .confidence import Confidence, isotonic_fit
from .decision import Decision
from .deployment import Deployment
from .outcomes import walk
from .predicted import server_seconds
from .service_time import times_at_keep

__all__ = ["OracleTables", "Way"]


class Way(NamedTuple):
    """One way of one sample: where it is answered, what that takes, and how likely the answer is right."""

    decision: Decision
    local: bool
    cut: int
    nbytes: int
    server_s: float
    correct: float
    fallback_correct: float


class OracleTables:
    """The ways of every sample of an evaluation Profile; shared by equal devices.

    calibration   says how likely an answer is right that agrees with the whole network's, by that one's margin,
                  and one that does not. None: the label decides, and the oracle is the label oracle
    """

    def __init__(
        self,
        profile: Profile,
        candidates: Sequence[Decision],
        deployment: Deployment,
        calibration: Profile | None,
    ) -> None:
        self.deployment = deployment
        self.exits = profile.card.exits
        self.first_exit = self.exits[0]
        self.reply_bytes = profile.reply_bytes
        self._profile = profile
        self._candidates = list(candidates)
        self._whole = profile.head_prediction[:, -1].astype(np.int64)
        if calibration is None:
            self._agree = self._differ = None
        else:
            self._agree, self._differ = _trust(calibration)
        walks = [walk(profile, decision) for decision in self._candidates]
        # (candidates, samples), as small as they fit: the whole grid is looked at.
        self._local = np.stack([w.local for w in walks])
        self._cut = np.stack([w.cut for w in walks]).astype(np.int16)
        self._exit = np.stack([w.exit for w in walks]).astype(np.int16)
        self._prediction = np.stack([w.prediction for w in walks]).astype(np.int16)
        self._nbytes = np.stack([w.nbytes for w in walks]).astype(np.int32)
        self._tokens = np.stack([w.tokens for w in walks]).astype(np.int16)
        self._fallback = np.stack([w.fallback for w in walks]).astype(np.int16)
        self._ways: dict[int, list[Way]] = {}
        self._times: dict[float, tuple[float, ...]] = {}

    def ways(self, sample: int) -> list[Way]:
        """The ways worth looking at: none that another one beats in all that counts."""
        found = self._ways.get(sample)
        if found is None:
            found = self._ways[sample] = self._find(sample)
        return found

    def head_correct(self, sample: int, exit: int, keep: float) -> float:
        """How likely the device's exit is right."""
        return self._correct(sample, int(self._profile.head(keep)[0][sample, exit]))

    def times(self, keep: float) -> tuple[float, ...]:
        """Seconds to every cut on the device at this keep."""
        if keep not in self._times:
            self._times[keep] = times_at_keep(self._profile.card, self.deployment.block_s, keep)
        return self._times[keep]

    def _find(self, sample: int) -> list[Way]:
        columns = (self._local, self._cut, self._exit, self._prediction, self._nbytes, self._tokens)
        rows = zip(*(column[:, sample].tolist() for column in columns), strict=True)
        smallest: dict[tuple[bool, int, int, int], tuple[int, float, int, int]] = {}
        for index, (local, cut, exit, prediction, nbytes, tokens) in enumerate(rows):
            key = bool(local), cut, exit, prediction
            row = nbytes, self.times(self._candidates[index].keep)[cut], tokens, index
            if key not in smallest or row < smallest[key]:
                smallest[key] = row
        card, pace = self._profile.card, self.deployment.server
        found = [
            Way(
                self._candidates[index],
                local,
                cut,
                nbytes,
                0.0 if local else server_seconds(card, cut, exit, tokens, pace),
                self._correct(sample, prediction),
                self._correct(sample, int(self._fallback[index, sample])),
            )
            for (local, cut, exit, prediction), (nbytes, _, tokens, index) in smallest.items()
        ]
        return [way for place, way in enumerate(found) if not self._is_beaten(place, found)]

    def _is_beaten(self, place: int, ways: list[Way]) -> bool:
        """Whether another way is nowhere worse, and better somewhere or before this one in the list."""
        way = ways[place]
        mine = self._merits(way)
        for index, other in enumerate(ways):
            if index == place or (other.local, other.cut) != (way.local, way.cut):
                continue
            its = self._merits(other)
            nowhere_worse = all(a >= b for a, b in zip(its, mine, strict=True))
            if nowhere_worse and (its != mine or index < place):
                return True
        return False

    def _merits(self, way: Way) -> tuple[float, ...]:
        """What may count, for ways of equal place: the more the better."""
        head_s = self.times(way.decision.keep)
        return (way.correct, way.fallback_correct, -way.nbytes, -way.server_s, -head_s[way.cut], -head_s[-1])

    def _correct(self, sample: int, prediction: int) -> float:
        if self._agree is None or self._differ is None:
            return float(prediction == self._profile.labels[sample])
        if prediction == self._whole[sample]:
            return float(self._agree(float(self._profile.head_margin[sample, -1])))
        return self._differ


def _trust(calibration: Profile) -> tuple[Confidence, float]:
    """P(the whole network is right), by its margin; and P(right) of an answer that differs from it."""
    calibration.require("calibration")
    whole, labels = calibration.head_prediction[:, -1], calibration.labels
    agree = isotonic_fit(calibration.head_margin[:, -1], whole == labels)
    differs = calibration.tail_prediction != whole[None, :, None]
    right = (calibration.tail_prediction == labels[None, :, None]) & differs
    return agree, float((right.sum() + 1.0) / (differs.sum() + 2.0))
