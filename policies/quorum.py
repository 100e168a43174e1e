"""When learners that agree may be believed: quorum, unfeasibility and Welch's test (SQUAD, arXiv 2601.22711).

A learner votes with its opinion, class probabilities (C,); a quorum is a strict majority of the learners that voted or
still can. With a quorum, the majority's probabilities for its class are compared with another sample:

    runner_up    the same learners' probabilities for the second class (the largest mean among the majority)
    others       the same learners' mean probability over all other classes
    dissenters   the other learners' probabilities for the majority's class

p is one-sided (the majority's mean is the greater), variances are at least 1e-4, and p < alpha ends the request. Where
a sample has fewer than two values, the majority's mean probability for its class decides: at least `confidence`. The
original names the test and leaves the samples open; these three are ours. Over runner_up and others the class was
chosen because it is the top, so that p is a score and no error probability: calibrate alpha.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .welch import welch

__all__ = [
    "Evidence",
    "QuorumRule",
    "Reason",
    "Standing",
    "Verdict",
    "accepts",
    "evidence",
    "outcome",
    "standing",
]

_VARIANCE_FLOOR = 1e-4

Standing = Literal["quorum", "unfeasible", "open"]
Reason = Literal["quorum", "last", "shrunk", "deadline"]


class QuorumRule(BaseModel):
    """How opinions become an answer.

    alpha       a quorum is accepted where p < alpha
    compare     what the majority's probabilities for its class are compared with
    statistic   "confidence": the mean probability of the majority alone decides (the baseline without a test)
    confidence  least mean probability of the majority, where that decides
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(0.05, ge=0.0, le=1.0)
    compare: Literal["runner_up", "others", "dissenters"] = "runner_up"
    statistic: Literal["welch", "confidence"] = "welch"
    confidence: float = Field(0.9, ge=0.0, le=1.0)


class Verdict(NamedTuple):
    """The answer of a quorum.

    margin   top1 - top2 of the mean probabilities at the deciding gate
    votes    opinions counted there
    asked    learners that did any work, those that spoke unasked included
    reason   "quorum" accepted, "last" gate, "shrunk": nobody was left to go on, "deadline"
    macs     of all opinions received on asking
    """

    prediction: int
    margin: float
    gate: int
    votes: int
    asked: int
    reason: Reason
    macs: int


class Evidence(NamedTuple):
    """What speaks for the majority, arrays (S,).

    prediction    the majority's class, ties by mean probability
    p             one-sided, of Welch's test; 1 where it cannot be made
    tested        whether it can: two values in both samples
    confidence    the majority's mean probability for its class
    margin        top1 - top2 of the mean probabilities of all that voted
    """

    prediction: NDArray[np.int64]
    p: NDArray[np.float64]
    tested: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    margin: NDArray[np.float64]

    def accepted(self, rule: QuorumRule) -> NDArray[np.bool_]:
        """Whether the rule ends the request, given a quorum; bool (S,)."""
        sure = self.confidence >= rule.confidence
        return sure if rule.statistic == "confidence" else np.where(self.tested, self.p < rule.alpha, sure)


def standing(predictions: Sequence[int], alive: int) -> Standing:
    """Where a gate stands after these votes, of `alive` learners that voted or still can."""
    needed = alive // 2 + 1
    most = max(Counter(predictions).values(), default=0)
    if most >= needed:
        return "quorum"
    return "open" if most + alive - len(predictions) >= needed else "unfeasible"


def accepts(rule: QuorumRule, probabilities: NDArray[np.floating]) -> bool:
    """Whether a quorum with these opinions (n, C) ends the request."""
    return bool(evidence(*_alone(probabilities), rule.compare).accepted(rule)[0])


def outcome(probabilities: NDArray[np.floating]) -> tuple[int, float]:
    """The class that most of the opinions (n, C) name, n >= 1, and top1 - top2 of their mean probabilities.

    Ties go by mean probability, then to the lower class.
    """
    prediction, margin = _vote(*_alone(probabilities))
    return int(prediction[0]), float(margin[0])


def _alone(probabilities: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    opinions = np.asarray(probabilities, dtype=np.float64)[:, None, :]
    return opinions, np.ones(opinions.shape[:2], dtype=bool)


def _vote(
    opinions: NDArray[np.float64], counted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Prediction and margin in S cases: opinions (n, S, C), counted (n, S)."""
    n, cases, classes = opinions.shape
    votes = opinions.argmax(axis=-1)
    ballots = np.zeros((cases, classes))
    sums = np.zeros((cases, classes))
    rows = np.arange(cases)
    for learner in range(n):
        ballots[rows, votes[learner]] += counted[learner]
        sums += np.where(counted[learner][:, None], opinions[learner], 0.0)
    prediction = np.where(ballots == ballots.max(axis=-1, keepdims=True), sums, -1.0).argmax(axis=-1)
    means = np.sort(sums, axis=-1) / counted.sum(axis=0)[:, None]
    return prediction, means[:, -1] - means[:, -2] if classes > 1 else np.ones(cases)


def evidence(
    probabilities: NDArray[np.floating], counted: NDArray[np.bool_], compare: str = "runner_up"
) -> Evidence:
    """Evidence in S cases at once: opinions (n, S, C), and which of them are counted (n, S), at least one a case.

    Sums run over the learners in their order, so that one case alone gives the same numbers.
    """
    opinions = np.asarray(probabilities, dtype=np.float64)
    prediction, margin = _vote(opinions, counted)
    majority = counted & (opinions.argmax(axis=-1) == prediction)
    own = opinions[:, np.arange(opinions.shape[1]), prediction]
    size, mean, variance = _moments(own, majority)
    rivals, members = _rivals(opinions, prediction, own, majority, counted, compare)
    other_size, other_mean, other_variance = _moments(rivals, members)
    tested = (size > 1) & (other_size > 1)
    p = welch(mean, variance, np.maximum(size, 2), other_mean, other_variance, np.maximum(other_size, 2))
    return Evidence(prediction, np.where(tested, p, 1.0), tested, mean, margin)


def _rivals(
    opinions: NDArray[np.float64],
    prediction: NDArray[np.int64],
    own: NDArray[np.float64],
    majority: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    compare: str,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The sample that `own` is compared with: values (n, S) and which of them belong to it (n, S)."""
    n, cases, classes = opinions.shape
    if compare == "dissenters":
        return own, counted & ~majority
    if classes == 1:
        return np.zeros((n, cases)), majority
    if compare == "others":
        return (1.0 - own) / (classes - 1), majority
    rows = np.arange(cases)
    sums = np.zeros((cases, classes))
    for learner in range(n):
        sums += np.where(majority[learner][:, None], opinions[learner], 0.0)
    sums[rows, prediction] = -1.0
    return opinions[:, rows, sums.argmax(axis=-1)], majority


def _moments(
    values: NDArray[np.float64], members: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Size, mean, and unbiased variance with its floor, over the members (n, S); (S,) each."""
    size = members.sum(axis=0)
    total = np.zeros(values.shape[1])
    for value, member in zip(values, members, strict=True):
        total += np.where(member, value, 0.0)
    mean = total / np.maximum(size, 1)
    squares = np.zeros_like(mean)
    for value, member in zip(values, members, strict=True):
        squares += np.where(member, np.square(value - mean), 0.0)
    return size, mean, np.maximum(squares / np.maximum(size - 1, 1), _VARIANCE_FLOOR)
