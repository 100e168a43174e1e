"""ADC: the identity where nothing is merged, means of alike samples where something is, never NaN."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.codec.adc import group_count, groups_message, merge, merged_shape, ratios, select, unmerge
from splitpoint.codec.errors import PayloadError
from splitpoint.codec.tokens import TokenCodec
from splitpoint.errors import UsageError


def batch(seed: int, samples: int, tokens: int = 9, dim: int = 6):
    random = np.random.default_rng(seed)
    x = random.normal(size=(samples, tokens, dim)).astype(np.float32)
    attention = random.dirichlet(np.ones(tokens - 1), size=samples).astype(np.float32)
    return x, attention


@pytest.mark.parametrize("samples", [1, 2, 7, 40])
def test_a_full_rate_is_the_identity(samples):
    x, attention = batch(0, samples)
    merged = merge(x, attention, 1.0, 1.0, seed=3)
    assert (merged.tokens == x).all()
    assert merged.assignment.tolist() == list(range(samples))
    assert merged.rate == 1.0


@given(
    st.integers(0, 1000),
    st.integers(1, 30),
    st.integers(2, 12),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_shapes_rates_and_groups_hold_for_any_batch(seed, samples, tokens, rho_batch, rho_tokens, alike):
    x, attention = batch(seed, samples, tokens)
    if alike:  # all points coincide: k-means has nothing to go by
        attention[:] = attention[0]
    merged = merge(x, attention, rho_batch, rho_tokens, seed=1)
    groups, kept = merged_shape(samples, tokens, rho_batch, rho_tokens)
    assert groups == min(samples, max(2, int(rho_batch * samples + 1e-9)))
    assert merged.tokens.shape == (groups, kept, x.shape[2])
    assert sorted(set(merged.assignment.tolist())) == list(range(groups))
    assert np.isfinite(merged.tokens).all()
    assert merged.rate == groups * kept / (samples * tokens)
    assert (merged.kept[:, 0] == 0).all()
    assert (np.diff(merged.kept, axis=1) > 0).all()
    # Numbered by first appearance, so that equal batches have equal bytes.
    assert (np.diff(np.unique(merged.assignment, return_index=True)[1]) > 0).all()


def test_a_groups_tokens_are_the_mean_of_its_samples():
    x, attention = batch(5, 12)
    merged = merge(x, attention, 0.3, 0.5, seed=1)
    for group in range(len(merged.tokens)):
        mean = x[merged.assignment == group].mean(axis=0)
        np.testing.assert_allclose(merged.tokens[group], mean[merged.kept[group]], rtol=1e-5, atol=1e-6)
        scores = attention[merged.assignment == group].mean(axis=0)
        left_out = np.setdiff1d(np.arange(1, 9), merged.kept[group]) - 1
        assert scores[left_out].max() <= scores[merged.kept[group][1:] - 1].min() + 1e-7


@pytest.mark.parametrize(("kinds", "most"), [(3, 0), (10, 2)])
def test_well_separated_samples_find_their_own_kind(kinds: int, most: int):
    random = np.random.default_rng(7)
    kind = random.permutation(np.arange(10 * kinds) % kinds)
    attention = np.eye(kinds).repeat(3, axis=1)[kind] + 0.01 * random.random((10 * kinds, 3 * kinds))
    missed = 0
    for seed in range(20):
        assignment = select(attention.astype(np.float32), 0.1, 1.0, seed=seed).assignment
        missed += any(len(set(kind[assignment == group])) > 1 for group in range(kinds))
    # Seeds are spread by k-means++; of many kinds one may be missed all the same.
    assert missed <= most


@pytest.mark.parametrize("seed", range(5))
def test_every_sample_is_nearest_to_the_mean_of_its_own_cluster(seed: int):
    _, attention = batch(seed, 60)
    assignment = select(attention, 0.1, 1.0, seed=seed).assignment
    means = np.stack([attention[assignment == group].mean(axis=0, dtype=np.float64) for group in range(6)])
    distances = np.square(attention[:, None] - means).sum(axis=2)
    assert (distances.argmin(axis=1) == assignment).all()


def test_clusters_are_keyed_by_the_seed():
    x, attention = batch(9, 30)
    first = merge(x, attention, 0.3, 0.5, seed=1, key=4)
    again = merge(x, attention, 0.3, 0.5, seed=1, key=4)
    assert (first.tokens == again.tokens).all()
    others = [merge(x, attention, 0.3, 0.5, seed=1, key=key).assignment.tolist() for key in range(5, 10)]
    assert any(other != first.assignment.tolist() for other in others)
    others = [merge(x, attention, 0.3, 0.5, seed=seed, key=4).assignment.tolist() for seed in range(2, 7)]
    assert any(other != first.assignment.tolist() for other in others)


def test_every_sample_gets_its_groups_answer():
    assert unmerge(np.array([0, 1, 0, 2]), ["a", "b", "c"]) == ["a", "b", "a", "c"]


def test_the_default_ratios_share_the_rate():
    rho_batch, rho_tokens = ratios(0.25)
    assert rho_batch == rho_tokens == 0.5
    assert merged_shape(8, 64, rho_batch, rho_tokens) == (4, 32)
    assert ratios(0.2, 0.5) == (0.5, pytest.approx(0.4))
    assert ratios(0.2, 0.2) == (0.2, 1.0)


@pytest.mark.parametrize("count", [50, 100])
def test_shares_that_are_whole_numbers_give_these(count):
    """29 of 50 tokens are 29, though 29 / 50 * 50 is a little less."""
    for wanted in range(2, count + 1):
        assert merged_shape(count, count, wanted / count, wanted / count) == (wanted, wanted)


@pytest.mark.parametrize("samples", [300, 1000])
def test_groups_never_outgrow_one_byte(samples):
    merged = merge(*batch(13, samples), 1.0, 1.0, seed=3)
    assert len(merged.tokens) == 256
    assert np.bincount(merged.assignment).size == 256


def test_groups_go_through_the_payload():
    x, attention = batch(11, 10)
    merged = merge(x, attention, 0.4, 0.5, seed=2)
    codec = TokenCodec({}, dim=6, max_tokens=9)
    message = codec.encode_merged(merged, cut=1)
    plain = codec.encode_merged(merged._replace(assignment=np.arange(4)), cut=1)
    assert message.ByteSize() == plain.ByteSize() + 6  # one byte a sample
    assert group_count(message) == 4
    assert (message.count, message.groups.samples) == (4, 10)
    assert list(message.groups.assignment) == merged.assignment.tolist()
    back = codec.decode(message, 1).reshape(merged.tokens.shape)
    assert np.abs(back - merged.tokens).max() < 0.02
    assert groups_message(merged.assignment) == message.groups


def test_wrong_shapes_values_and_ratios_are_refused():
    x, attention = batch(0, 3)
    with pytest.raises(PayloadError):
        merge(x, attention[:, 1:], 1.0, 1.0, seed=0)
    with pytest.raises(PayloadError):
        merge(x * np.nan, attention, 1.0, 1.0, seed=0)
    with pytest.raises(PayloadError):
        merge(x[:0], attention[:0], 1.0, 1.0, seed=0)
    for bad in (0.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="rho_tokens"):
            merge(x, attention, 1.0, bad, seed=0)
        with pytest.raises(UsageError, match="rate"):
            ratios(bad)
    for bad in (0.1, 1.5):
        with pytest.raises(UsageError, match="rho_batch"):
            ratios(0.2, bad)
