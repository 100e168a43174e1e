"""Quorum, unfeasibility, the test and its fallbacks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from splitpoint.policies.quorum import Evidence, QuorumRule, accepts, evidence, outcome, standing
from splitpoint.seeding import generator


def noise(cases: int, learners: int, classes: int = 10, *, seed: int = 0) -> np.ndarray:
    """Votes that say nothing about any input: softmax of normal logits, independent; (cases, learners, classes)."""
    logits = generator(seed, "noise-votes").normal(size=(cases, learners, classes))
    odds = np.exp(logits)
    return odds / odds.sum(axis=-1, keepdims=True)


def judged(said: np.ndarray, compare: str = "runner_up") -> Evidence:
    return evidence(said[:, None], np.ones((len(said), 1), dtype=bool), compare)


@pytest.mark.parametrize(
    ("votes", "alive", "expected"),
    [
        ([], 3, "open"),
        ([4], 3, "open"),
        ([4, 4], 3, "quorum"),
        ([4, 5], 3, "open"),
        ([4, 5, 6], 3, "unfeasible"),
        ([1, 2], 2, "unfeasible"),
        ([1], 1, "quorum"),
        ([1, 1], 4, "open"),
        ([1, 1, 2, 2], 4, "unfeasible"),
        ([1, 1, 2], 4, "open"),
        ([1, 2, 3, 4], 5, "unfeasible"),
        ([1, 2, 3], 5, "open"),
        ([], 0, "unfeasible"),
    ],
)
def test_standing(votes: list[int], alive: int, expected: str) -> None:
    assert standing(votes, alive) == expected


@given(st.lists(st.integers(0, 3), max_size=7), st.integers(0, 5), st.lists(st.integers(0, 3), max_size=5))
def test_what_stands_is_not_overthrown(votes: list[int], left: int, more: list[int]) -> None:
    now = standing(votes, len(votes) + left)
    later = standing(votes + more[:left], len(votes) + left)
    assert now == "open" or later == now
    assert left > 0 or now != "open"


def test_runner_up_is_scipys_test_of_the_majority() -> None:
    said = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]])
    expected = stats.ttest_ind([0.7, 0.5], [0.2, 0.4], equal_var=False, alternative="greater").pvalue
    assert judged(said).p[0] == pytest.approx(expected, rel=1e-9)
    assert accepts(QuorumRule(alpha=expected * 1.001), said)
    assert not accepts(QuorumRule(alpha=expected * 0.999), said)


def test_others_is_the_mean_of_all_other_classes() -> None:
    said = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]])
    expected = stats.ttest_ind([0.7, 0.5], [0.15, 0.25], equal_var=False, alternative="greater").pvalue
    assert judged(said, "others").p[0] == pytest.approx(expected, rel=1e-9)


def test_dissenters_are_compared_by_the_same_class_and_one_is_too_few() -> None:
    said = np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
    expected = stats.ttest_ind([0.9, 0.7, 0.6], [0.4, 0.1], equal_var=False, alternative="greater").pvalue
    assert judged(said, "dissenters").p[0] == pytest.approx(expected, rel=1e-9)
    rule = QuorumRule(compare="dissenters", alpha=1.0, confidence=0.75)
    assert not judged(said[:4], "dissenters").tested[0]
    assert not accepts(rule, said[:4])  # their mean confidence is .733
    assert accepts(rule, said[[0, 1, 3]])  # and .8


def test_equal_opinions_meet_the_variance_floor() -> None:
    said = np.tile([0.51, 0.49], (2, 1))
    # Standard error .01, two degrees of freedom.
    assert judged(said).p[0] == pytest.approx(stats.t.sf(2.0, 2), rel=1e-9)


def test_one_opinion_falls_back_on_confidence() -> None:
    rule = QuorumRule(alpha=1.0, confidence=0.8)
    assert accepts(rule, np.array([[0.85, 0.15]]))
    assert not accepts(rule, np.array([[0.75, 0.25]]))


def test_mean_confidence_is_the_majoritys() -> None:
    rule = QuorumRule(statistic="confidence", confidence=0.6)
    assert accepts(rule, np.array([[0.7, 0.3], [0.5, 0.5], [0.0, 1.0]]))
    assert not accepts(rule, np.array([[0.7, 0.3], [0.45, 0.45], [0.0, 1.0]]))


def test_ties_of_the_last_vote_go_to_the_mean() -> None:
    assert outcome(np.array([[0.9, 0.0, 0.1], [0.1, 0.6, 0.3]]))[0] == 0
    assert outcome(np.array([[0.4, 0.3, 0.3], [0.1, 0.6, 0.3]]))[0] == 1
    # A class without votes does not win by its mean.
    assert outcome(np.array([[0.51, 0.0, 0.49], [0.0, 0.51, 0.49]]))[0] == 0


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from(["runner_up", "others", "dissenters"]))
def test_cases_at_once_are_cases_alone(seed: int, compare: str) -> None:
    draws = np.random.default_rng(seed)
    said = draws.dirichlet(np.full(4, 0.5), size=(5, 12)).astype(np.float16).astype(np.float32)
    counted = draws.random((5, 12)) < 0.7
    counted[0] |= ~counted.any(axis=0)
    together = evidence(said, counted, compare)
    for case in range(12):
        alone = judged(said[counted[:, case], case], compare)
        assert [field[case] for field in together] == [field[0] for field in alone]


def test_rule_refuses_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        QuorumRule(alfa=0.1)  # type: ignore[call-arg]


def test_noise_votes_stop_falsely_more_often_than_alpha_where_the_class_is_chosen_by_its_size() -> None:
    """The top class beats its runner-up by construction: p over them is no error probability."""
    said = noise(4000, 5)
    votes = said.argmax(axis=-1)
    most = (votes[:, :, None] == np.arange(10)).sum(axis=1).max(axis=-1)
    quorums = said[most >= 3]
    assert len(quorums) > 200
    counted = np.ones((5, len(quorums)), dtype=bool)
    rates = {
        compare: float((evidence(quorums.swapaxes(0, 1), counted, compare).p < 0.05).mean())
        for compare in ("runner_up", "others")
    }
    assert rates["others"] > 0.8
    assert 0.3 < rates["runner_up"] < rates["others"]
