"""Token selection: the most attended patches, in order of position."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.codec.errors import PayloadError
from splitpoint.codec.selection import further_tokens, kept_count, kept_tokens, sent_tokens


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.floats(0.001, 1.0))
def test_kept_patches_are_the_highest_and_ascending(scores, keep):
    kept = kept_tokens(np.array(scores, np.float32), keep)
    assert len(kept) == max(1, math.floor(keep * len(scores) + 1e-9)) == kept_count(len(scores), keep)
    assert (np.diff(kept) > 0).all()
    # By rank: (score descending, position ascending).
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert kept.tolist() == sorted(ranked[: len(kept)])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.floats(0.001, 1.0), st.floats(0.001, 1.0))
def test_what_is_kept_first_and_what_comes_later_is_what_is_kept_at_once(scores, one, other):
    keep, more = sorted((one, other))
    values = np.array(scores, np.float32)
    first, later = kept_tokens(values, keep), further_tokens(values, keep, more)
    assert (np.diff(later) > 0).all()
    assert sorted([*first, *later]) == kept_tokens(values, more).tolist()


def test_ties_go_to_the_lower_position():
    assert kept_tokens(np.array([1, 2, 2, 2, 1], np.float32), 0.4).tolist() == [1, 2]


def test_keeping_all_is_the_identity():
    assert kept_tokens(np.array([3, 1, 2], np.float32), 1.0).tolist() == [0, 1, 2]


@given(st.integers(1, 1024), st.data())
def test_a_share_of_the_patches_is_that_many(patches, data):
    count = data.draw(st.integers(1, patches))
    assert kept_count(patches, count / patches) == count


def test_at_least_one_patch_is_kept():
    assert kept_tokens(np.array([0.1, 0.9, 0.2], np.float32), 0.01).tolist() == [1]


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.01, math.nan, math.inf])
def test_a_fraction_out_of_range_is_refused(keep):
    with pytest.raises(PayloadError, match="keep"):
        kept_tokens(np.ones(4, np.float32), keep)


@pytest.mark.parametrize("scores", [[1, math.nan], [math.inf, 1], [], [[1, 2]]])
def test_bad_scores_are_refused(scores):
    with pytest.raises(PayloadError, match="scores"):
        kept_tokens(np.array(scores, np.float32), 1.0)


@given(st.integers(2, 30), st.floats(0.01, 1.0), st.integers(0, 1000))
def test_a_rest_token_is_the_mean_of_the_patches_that_are_not_kept(patches, keep, seed):
    random = np.random.default_rng(seed)
    tokens = random.normal(size=(patches + 1, 3)).astype(np.float32)
    scores = random.random(patches).astype(np.float32)
    plain, kept, none = sent_tokens(tokens, scores, keep)
    sent, kept_too, rest = sent_tokens(tokens, scores, keep, rest=True)
    assert (none, rest) == (0, patches - kept.size)
    assert kept.tolist() == kept_too.tolist()
    if kept.size == patches:
        assert sent is tokens
        return
    assert sent[[0, *range(2, len(sent))]].tolist() == plain.tolist()
    total = plain[1:].sum(axis=0) + (patches - kept.size) * sent[1]
    np.testing.assert_allclose(total, tokens[1:].sum(axis=0), atol=1e-4)


@pytest.mark.parametrize("keep", [0.1, 1.0])
def test_where_gates_left_no_patch_cls_goes_alone(keep):
    cls = np.ones((1, 3), np.float32)
    sent, kept, rest = sent_tokens(cls, np.empty(0, np.float32), keep, rest=True)
    assert (sent.tolist(), kept.tolist(), rest) == (cls.tolist(), [], 0)
