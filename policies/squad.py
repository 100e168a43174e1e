"""SQUAD over stored opinions, all samples at once: what `coordinate` decides where every learner answers.

Where a gate stands does not depend on alpha, so everything is reckoned once as if the request stopped at each gate,
and a rule then only says at which. L learners, S samples, G gates; costs and times are (L, G) of the segments that end
in the gates.

    sequential  learners one after another: work and latency are those of all executed segments
    parallel    all begin at once and go on to their last gate until they are cancelled; a gate is settled when the last
                opinion that it needs is there, and a segment that has begun is paid in full
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .confidence import Confidence, isotonic_fit
from .quorum import Evidence, QuorumRule, evidence
from .thresholds import Point, candidates, choose, sweep

__all__ = ["QuorumTable", "calibrated_alpha", "false_stop_alpha", "quorum_table", "verdict_confidence"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class QuorumTable:
    """What would be said if requests stopped at each gate.

    found    Evidence with arrays (S, G)
    quorum   bool (S, G): whether a majority stands
    counted  bool (L, S, G), in the order of asking: whose opinions are counted at the gate
    order    int (S, L): the learners of each sample in that order
    """

    found: Evidence
    quorum: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    order: NDArray[np.int64]

    def stop(self, rule: QuorumRule) -> NDArray[np.int64]:
        """The gate at which each request ends, (S,). The rule's `compare` is the table's."""
        ends = self.quorum & self.found.accepted(rule)
        ends[:, -1] = True
        return np.asarray(ends.argmax(axis=1))

    def right(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether an answer at each gate is right, (S, G)."""
        return np.asarray(self.found.prediction == labels[:, None])

    @property
    def votes(self) -> NDArray[np.int64]:
        """Opinions counted, (S, G)."""
        return np.asarray(self.counted.sum(axis=0))

    def asked(self) -> NDArray[np.int64]:
        """Learners that did any work when asked one after another, (S, G)."""
        return np.asarray((self._reached() >= 0).sum(axis=0))

    def _reached(self) -> NDArray[np.int64]:
        """The deepest gate that each learner has run to, (L, S, G); -1 if it was not asked."""
        gates = np.arange(self.counted.shape[2])
        return np.maximum.accumulate(np.where(self.counted, gates, -1), axis=2)

    def _each(self, costs: NDArray[np.number]) -> Array:
        """Costs (L, G) as (L, S, G) in the order of asking."""
        return np.asarray(costs, dtype=np.float64)[self.order.T]

    def sequential(self, costs: NDArray[np.number]) -> Array:
        """Sum over executed segments, (S, G): MACs for MACs, seconds for seconds."""
        total = np.cumsum(self._each(costs), axis=2)
        reached = self._reached()
        spent = np.take_along_axis(total, np.maximum(reached, 0), axis=2)
        return np.asarray(np.where(reached >= 0, spent, 0.0).sum(axis=0))

    def parallel(self, times: NDArray[np.number]) -> Array:
        """When each gate is settled, (S, G), in the unit of the times."""
        arrival = np.cumsum(self._each(times), axis=2)
        needed = np.where(self.counted, arrival, 0.0).max(axis=0)
        return np.asarray(np.maximum.accumulate(needed, axis=1))

    def parallel_work(self, costs: NDArray[np.number], times: NDArray[np.number]) -> Array:
        """Sum of the costs of all segments begun before the request ends, (S, G)."""
        took = self._each(times)
        begun = np.cumsum(took, axis=2) - took
        spent = self._each(costs)
        ends = self.parallel(times)
        return np.stack(
            [
                np.where(begun < ends[:, gate][:, None], spent, 0.0).sum(axis=(0, 2))
                for gate in range(ends.shape[1])
            ],
            axis=1,
        )


def quorum_table(
    probabilities: NDArray[np.floating],
    *,
    order: NDArray[np.integer] | None = None,
    compare: str = "runner_up",
) -> QuorumTable:
    """The table of opinions (L, S, G, C).

    order  learners in the order of asking, (L,), or (S, L) for each sample its own; default as they stand
    """
    learners, samples, gates, _ = probabilities.shape
    line = np.broadcast_to(np.arange(learners) if order is None else order, (samples, learners))
    said = np.asarray(probabilities)[line.T, np.arange(samples)]
    quorum = np.zeros((samples, gates), dtype=bool)
    counted = np.zeros((learners, samples, gates), dtype=bool)
    found = []
    for gate in range(gates):
        counted[..., gate], quorum[:, gate] = _settled(said[:, :, gate])
        found.append(evidence(said[:, :, gate], counted[..., gate], compare))
    stacked = Evidence(*(np.stack(field, axis=1) for field in zip(*found, strict=True)))
    return QuorumTable(stacked, quorum, counted, np.asarray(line, dtype=np.int64))


def _settled(said: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which opinions (L, S, C) are heard until a gate is settled, (L, S), and whether by a quorum, (S,)."""
    learners, samples, classes = said.shape
    needed = learners // 2 + 1
    ballots = np.zeros((samples, classes), dtype=np.int64)
    rows = np.arange(samples)
    heard = np.zeros((learners, samples), dtype=bool)
    open_ = np.ones(samples, dtype=bool)
    most = np.zeros(samples, dtype=np.int64)
    for place in range(learners):
        heard[place] = open_
        ballots[rows, said[place].argmax(axis=-1)] += open_
        most = ballots.max(axis=1)
        open_ &= (most < needed) & (most + learners - place - 1 >= needed)
    return heard, most >= needed


def _alphas(table: QuorumTable, count: int) -> Array:
    """Values of alpha that divide the table's p into equal parts."""
    return np.clip(candidates(table.found.p[table.quorum & table.found.tested], count), 0.0, 1.0)


def calibrated_alpha(
    table: QuorumTable,
    labels: NDArray[np.int64],
    cost: Array,
    rule: QuorumRule,
    *,
    accuracy: float | None = None,
    budget: float | None = None,
    count: int = 256,
) -> tuple[QuorumRule, Point]:
    """The rule with alpha (for statistic "confidence": confidence) for a target accuracy or mean cost, and its point.

    table, labels (S,) and cost (S, G) of stopping are of the calibration split. UsageError as `thresholds.choose`.
    """
    field = "alpha" if rule.statistic == "welch" else "confidence"
    values = (
        _alphas(table, count)
        if field == "alpha"
        else np.clip(candidates(table.found.confidence[table.quorum], count), 0.0, 1.0)
    )
    points = sweep(
        lambda value: table.stop(rule.model_copy(update={field: value})), values, table.right(labels), cost
    )
    best = choose(points, accuracy=accuracy, cost=budget)
    return rule.model_copy(update={field: best.threshold}), best


def false_stop_alpha(table: QuorumTable, labels: NDArray[np.int64], rate: float) -> float:
    """The largest alpha that accepts at most this share of the wrong quorums, at any gate.

    That is what p < alpha would promise if p were an error probability. UsageError where there is no wrong quorum
    that can be tested.
    """
    wrong = table.quorum & table.found.tested & ~table.right(labels)
    p = np.sort(table.found.p[wrong])
    if not len(p):
        raise UsageError("no quorum of these is wrong: there is nothing to calibrate on")
    # p < alpha: alpha at the k-th smallest accepts the k before it, fewer where values are equal.
    place = int(np.floor(rate * len(p)))
    return float(p[place]) if place < len(p) else 1.0


def verdict_confidence(table: QuorumTable, gates: NDArray[np.int64], labels: NDArray[np.int64]) -> Confidence:
    """Calibrated probability that a verdict is right, from its margin; gates (S,): where requests ended.

    All of the calibration split.
    """
    rows = np.arange(len(gates))
    return isotonic_fit(table.found.margin[rows, gates], table.right(labels)[rows, gates])
