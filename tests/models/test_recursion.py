import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitpoint.models.recursion import margin, prediction, running_logits

_LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(2, 9)), elements=st.floats(-30, 30, width=32)
)


def test_running_logits_is_the_closed_form() -> None:
    q = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    qbar = None
    for row in q:
        qbar = running_logits(qbar, row)
    np.testing.assert_allclose(qbar, q[0] / 8 + q[1] / 8 + q[2] / 4 + q[3] / 2, rtol=1e-5)


def test_the_first_exit_is_taken_as_it_is() -> None:
    np.testing.assert_array_equal(running_logits(None, np.array([1.0, -2.0])), np.float32([1, -2]))


def test_margin_of_two_classes_is_tanh() -> None:
    assert margin(np.array([1.5, 0.0])) == pytest.approx(np.tanh(0.75), rel=1e-6)


@given(_LOGITS)
def test_margin_is_top1_minus_top2_of_the_softmax(q: np.ndarray) -> None:
    p = np.exp(q.astype(np.float64))
    p = np.sort(p / p.sum(axis=-1, keepdims=True), axis=-1)
    np.testing.assert_allclose(margin(q), p[:, -1] - p[:, -2], atol=1e-5)


@given(_LOGITS)
def test_rows_of_a_batch_are_read_one_by_one(q: np.ndarray) -> None:
    np.testing.assert_array_equal(prediction(q), [prediction(row) for row in q])
    np.testing.assert_allclose(margin(q), [margin(row) for row in q], atol=1e-6)


def test_huge_logits_do_not_overflow_and_ties_go_to_the_lower_class() -> None:
    assert margin(np.array([1e30, 1e30, 0.0])) == 0.0
    assert prediction(np.array([0.0, 2.0, 2.0])) == 1


def test_a_single_class_is_certain() -> None:
    assert margin(np.array([[3.0]])).tolist() == [1.0]
