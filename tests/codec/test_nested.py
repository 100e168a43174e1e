"""Nested integers: the stated error bound, at every width, for every token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitpoint.codec.errors import PayloadError
from splitpoint.codec.nested import LARGEST, dequantise, quantise


def tokens(limit: float) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.floats(-limit, limit, width=32),
    )


@pytest.mark.parametrize("bits", range(1, 9))
@given(x=st.one_of(tokens(4.0), tokens(2**-20), tokens(65504.0)))
@settings(max_examples=60, deadline=None)
def test_the_error_is_at_most_half_a_cell(bits, x):
    codes, offset, scale, _ = quantise(x)
    back = dequantise(codes >> (8 - bits), offset, scale, bits).astype(np.float64)
    cell = scale.astype(np.float64)[:, None] * 2 ** (8 - bits)
    # Of float32: the subtraction, the quotient and the sum are each rounded once, or underflow.
    single = np.finfo(np.float32)
    rounding = 4 * single.eps * (np.abs(x).max(axis=1, keepdims=True) + 128 * cell) + single.tiny
    assert (np.abs(back - x) <= cell / 2 + rounding).all()


@given(x=tokens(100.0))
@settings(max_examples=60, deadline=None)
def test_offset_and_scale_cover_the_tokens_and_no_more(x):
    _, offset, scale, _ = quantise(x)
    low, step = offset.astype(np.float64), scale.astype(np.float64)
    shared = offset.size == 1
    least = np.full(len(x), x.min()) if shared else x.min(axis=1)
    most = np.full(len(x), x.max()) if shared else x.max(axis=1)
    assert (low <= least).all()
    span = most.astype(np.float64) - low
    assert (span <= 256 * step * (1 + 1e-6) + np.finfo(np.float32).tiny).all()  # smaller spans underflow
    # And no more than that: float16 rounds by at most one part in 1024, or one subnormal step.
    assert (256 * step <= span * (1 + 2**-9) + 256 * 2**-24).all()


def _with_one_wide_token(dims: int) -> np.ndarray:
    x = np.zeros((8, dims), np.float32)
    x[:, 0], x[0, 0] = 1.0, 1024.0
    return x


def test_a_range_is_shared_where_naming_each_costs_more_than_finer_cells_save():
    # One of eight tokens is wide: the shared range is sqrt(8) times the root mean square of their own.
    for dims, shared in ((21, True), (22, False)):
        assert (8**0.5) ** dims <= 2**32 if shared else (8**0.5) ** dims > 2**32
        _, _, scale, _ = quantise(_with_one_wide_token(dims))
        assert scale.tolist() == ([4.0] if shared else [4.0] + [1 / 256] * 7)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 65504.0, -65504.0])
def test_a_constant_token_is_exact(value):
    codes, offset, scale, _ = quantise(np.full((2, 5), value, np.float32))
    assert (scale == 0).all()
    assert (dequantise(codes >> 7, offset, scale, 1) == np.float32(value)).all()


@pytest.mark.parametrize("value", [0.1, 10.001, -3.3333, 1e-9, -1e-9])
def test_a_constant_that_float16_lacks_is_within_half_a_cell(value):
    codes, offset, scale, _ = quantise(np.full((1, 4), value, np.float32))
    assert np.abs(dequantise(codes, offset, scale, 8) - value).max() <= float(scale[0]) / 2 + 1e-6


def test_huge_values_are_clipped_to_what_float16_holds():
    codes, offset, scale, _ = quantise(np.array([[-1e30, 0, 1e30], [1e38, 1e38, 1e38]], np.float32))
    back = dequantise(codes, offset, scale, 8)
    assert np.isfinite(offset).all()
    assert np.isfinite(scale).all()
    np.testing.assert_allclose(back, [[-LARGEST, 0, LARGEST], [LARGEST] * 3], atol=257)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    x = np.zeros((3, 4), np.float32)
    x[1, 2] = bad
    with pytest.raises(PayloadError, match="finite"):
        quantise(x)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (1, 2, 3)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(PayloadError, match="shape"):
        quantise(np.zeros(shape, np.float32))


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_a_width_out_of_range_is_refused(bits):
    with pytest.raises(PayloadError) as caught:
        dequantise(np.zeros((1, 1), np.uint8), np.zeros(1, np.float16), np.zeros(1, np.float16), bits)
    assert caught.value.field == "tokens.bits"
