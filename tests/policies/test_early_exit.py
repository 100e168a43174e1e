"""Exit rules of one network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.errors import UsageError
from splitpoint.models.recursion import margin
from splitpoint.policies.early_exit import RULES, cumulative, scores, stops

SAID = np.array([[[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]]])


def test_scores_of_one_sample() -> None:
    assert scores("softmax", SAID)[0] == pytest.approx([0.6, 0.5, 0.8])
    assert scores("recursive", SAID)[0] == pytest.approx([0.3, 0.1, 0.7])
    assert scores("patience", SAID)[0].tolist() == [0, 1, 0]
    assert scores("cumulative", SAID)[0] == pytest.approx([0.6, 1 - 0.4 * 0.5, 1 - 0.4 * 0.5 * 0.2])
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.1))
    assert scores("entropy", SAID)[0, 2] == pytest.approx(1 - entropy / np.log(3))


def test_certainty_and_ignorance_are_the_ends_of_entropy() -> None:
    ends = scores("entropy", np.array([[[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]]))
    assert ends[0] == pytest.approx([1.0, 0.0])


def test_recursive_score_is_the_margin_of_the_running_mean() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 3, 5))
    odds = np.exp(logits)
    found = scores("recursive", odds / odds.sum(axis=-1, keepdims=True))
    assert found == pytest.approx(margin(logits), abs=1e-6)


def test_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'entropy'"):
        scores("entropie", SAID)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from(RULES), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_stops_earlier(seed: int, rule: str, one: float, other: float) -> None:
    said = np.random.default_rng(seed).dirichlet(np.ones(4), (30, 3))
    found = scores(rule, said)
    assert (stops(found, max(one, other)) >= stops(found, min(one, other))).all()
    assert (stops(found, -1.0) == 0).all()
    assert (stops(found, 9.0) == 2).all()


@given(st.integers(0, 2**31))
def test_cumulative_confidence_rises(seed: int) -> None:
    found = cumulative(np.random.default_rng(seed).random((10, 4)))
    assert (np.diff(found, axis=1) >= 0).all()
    assert found[:, 0].max() <= 1


def test_thresholds_of_their_own_for_each_exit() -> None:
    assert stops(np.array([[0.6, 0.7, 0.0], [0.4, 0.3, 0.0]]), np.array([0.5, 0.2, 1.0])).tolist() == [0, 1]
