"""SQUAD over arrays is SQUAD sample by sample, and its calibration does what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.errors import UsageError
from splitpoint.policies.coordination import Ask, Opinion, coordinate
from splitpoint.policies.quorum import QuorumRule, Verdict
from splitpoint.policies.squad import (
    QuorumTable,
    calibrated_alpha,
    false_stop_alpha,
    quorum_table,
    verdict_confidence,
)


def opinions(seed: int, learners: int, samples: int, gates: int, classes: int = 3) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return draws.dirichlet(np.full(classes, 0.6), (learners, samples, gates)).astype(np.float16)


def driven(
    rule: QuorumRule, said: np.ndarray, macs: np.ndarray, times: np.ndarray, *, parallel: bool
) -> tuple[Verdict, float, int]:
    """Verdict of one sample (L, G, C), when it came, and the MACs of all segments begun before."""
    learners, gates = said.shape[:2]
    steps: Any = coordinate(rule, range(learners), gates, parallel=parallel)
    arrival = np.cumsum(times, axis=1)
    coming: list[tuple[float, int, int]] = []
    begun: list[tuple[float, int]] = []
    now, result = 0.0, None
    try:
        while True:
            effect = steps.send(result)
            result = None
            if isinstance(effect, Ask):
                at = now
                for gate in range(effect.first, effect.last + 1):
                    begun.append((at, int(macs[effect.learner, gate])))
                    at = (
                        float(arrival[effect.learner, gate]) if parallel else at + times[effect.learner, gate]
                    )
                    coming.append((at, effect.learner, gate))
            else:
                coming.sort()
                now, learner, gate = coming.pop(0)
                probabilities = said[learner, gate].astype(np.float32)
                result = Opinion(learner, gate, probabilities, int(macs[learner, gate]))
    except StopIteration as stop:
        return stop.value, now, sum(cost for at, cost in begun if at < now)


@settings(max_examples=25)
@given(
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    st.sampled_from(["runner_up", "others", "dissenters"]),
    st.sampled_from(["welch", "confidence"]),
)
def test_table_is_what_coordination_does(
    seed: int, learners: int, gates: int, alpha: float, compare: str, statistic: str
) -> None:
    said = opinions(seed, learners, 6, gates)
    draws = np.random.default_rng(seed)
    # Powers of two: sums of times are exact in any order, and none are equal.
    macs = draws.integers(1, 1000, (learners, gates))
    times = draws.permutation(2.0 ** np.arange(learners * gates)).reshape(learners, gates)
    rule = QuorumRule(alpha=alpha, compare=compare, statistic=statistic, confidence=0.6)
    table = quorum_table(said, compare=compare)
    stop = table.stop(rule)
    for sample in range(6):
        gate = stop[sample]
        one, now, _ = driven(rule, said[:, sample], macs, times, parallel=False)
        assert (one.prediction, one.gate) == (table.found.prediction[sample, gate], gate)
        assert one.margin == table.found.margin[sample, gate]
        assert one.votes == table.votes[sample, gate]
        assert one.asked == table.asked()[sample, gate]
        assert one.macs == table.sequential(macs)[sample, gate]
        assert now == table.sequential(times)[sample, gate]
        other, now, work = driven(rule, said[:, sample], macs, times, parallel=True)
        assert (other.prediction, other.gate) == (one.prediction, one.gate)
        assert now == table.parallel(times)[sample, gate]
        assert work == table.parallel_work(macs, times)[sample, gate]


def test_each_sample_may_have_its_own_order() -> None:
    said = opinions(1, 3, 40, 2)
    macs = np.array([[1, 10], [100, 1000], [10_000, 100_000]])
    draws = np.random.default_rng(2)
    order = np.stack([draws.permutation(3) for _ in range(40)])
    mixed = quorum_table(said, order=order)
    for sample in range(40):
        alone = quorum_table(said[order[sample], sample : sample + 1])
        assert alone.found.p[0].tolist() == mixed.found.p[sample].tolist()
        assert alone.sequential(macs[order[sample]])[0].tolist() == mixed.sequential(macs)[sample].tolist()


def sharpened(seed: int, samples: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Opinions (3, S, 3, 5) that are better at later gates, and labels."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 5, samples)
    logits = draws.normal(size=(3, samples, 3, 5)) + 0.7 * draws.normal(size=(1, samples, 1, 5))
    logits += np.array([1.0, 2.0, 3.0])[:, None] * np.eye(5)[labels][:, None]
    odds = np.exp(logits)
    return (odds / odds.sum(axis=-1, keepdims=True)).astype(np.float16), labels


def false_stops(table: QuorumTable, labels: np.ndarray, alpha: float) -> float:
    """Share of wrong quorums that are accepted."""
    wrong = table.quorum & ~table.right(labels)
    return float((table.found.p[wrong] < alpha).mean())


def test_calibrated_alpha_meets_its_target_and_nothing_cheaper_does() -> None:
    said, labels = sharpened(0)
    macs = np.array([[1, 2, 3]] * 3)
    table = quorum_table(said)
    cost = table.sequential(macs)
    rule, point = calibrated_alpha(table, labels, cost, QuorumRule(), accuracy=0.8)
    rows = np.arange(len(labels))
    stop = table.stop(rule)
    assert point.accuracy == table.right(labels)[rows, stop].mean() >= 0.8
    assert point.cost == cost[rows, stop].mean()
    looser = rule.model_copy(update={"alpha": min(1.0, rule.alpha * 1.3)})
    assert cost[rows, table.stop(looser)].mean() < point.cost
    assert table.right(labels)[rows, table.stop(looser)].mean() < 0.8
    within, point = calibrated_alpha(table, labels, cost, QuorumRule(), budget=float(cost.mean()))
    assert point.cost <= cost.mean()
    assert within.alpha > 0
    by_confidence = QuorumRule(statistic="confidence")
    rule, point = calibrated_alpha(table, labels, cost, by_confidence, accuracy=0.8)
    assert point.accuracy >= 0.8
    assert rule.confidence > 0
    less_sure = rule.model_copy(update={"confidence": rule.confidence - 0.02})
    assert cost[rows, table.stop(less_sure)].mean() < point.cost
    assert table.right(labels)[rows, table.stop(less_sure)].mean() < 0.8
    with pytest.raises(UsageError, match="no threshold reaches accuracy"):
        calibrated_alpha(table, labels, cost, QuorumRule(), accuracy=0.999)


def test_noise_is_believed_far_more_often_than_alpha_until_alpha_is_calibrated() -> None:
    draws = np.random.default_rng(3)
    odds = np.exp(draws.normal(size=(5, 6000, 2, 10)))
    noise = odds / odds.sum(axis=-1, keepdims=True)
    labels = draws.integers(0, 10, 6000)
    first, second = quorum_table(noise[:, :3000]), quorum_table(noise[:, 3000:])
    assert false_stops(first, labels[:3000], 0.05) > 0.3
    alpha = false_stop_alpha(first, labels[:3000], 0.05)
    assert alpha < 0.02
    assert false_stops(first, labels[:3000], alpha) <= 0.05
    # On fresh noise, within four standard errors of the few hundred quorums.
    quorums = int((second.quorum & ~second.right(labels[3000:])).sum())
    assert false_stops(second, labels[3000:], alpha) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / quorums)


@pytest.mark.parametrize("compare", ["runner_up", "dissenters"])
def test_alpha_accepts_its_share_of_the_wrong_quorums_that_are_tested(compare: str) -> None:
    draws = np.random.default_rng(6)
    labels = draws.integers(0, 4, 300)
    table = quorum_table(draws.dirichlet(np.ones(4), (6, 300, 2)), compare=compare)
    wrong = table.found.p[table.quorum & table.found.tested & ~table.right(labels)]
    assert 20 < wrong.size == len(np.unique(wrong))
    for rate in (0.05, 0.5, 0.99):
        alpha = false_stop_alpha(table, labels, rate)
        assert (wrong < alpha).sum() == int(rate * wrong.size)
    assert false_stop_alpha(table, labels, 1.0) == 1.0


def test_without_a_wrong_quorum_there_is_nothing_to_calibrate_on() -> None:
    sure = np.tile(np.array([0.9, 0.1], np.float16), (3, 10, 2, 1))
    with pytest.raises(UsageError, match="no quorum"):
        false_stop_alpha(quorum_table(sure), np.zeros(10, dtype=np.int64), 0.05)


def test_confidence_in_verdicts_is_their_share_of_right_ones() -> None:
    said, labels = sharpened(4)
    table = quorum_table(said)
    gates = table.stop(QuorumRule(alpha=0.1))
    confidence = verdict_confidence(table, gates, labels)
    rows = np.arange(len(labels))
    promised = confidence(table.found.margin[rows, gates])
    assert promised.mean() == pytest.approx(table.right(labels)[rows, gates].mean(), abs=0.02)
    assert confidence(0.95) > confidence(0.05) + 0.2
