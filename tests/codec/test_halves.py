"""float16 on the wire: exact to its rounding, clipped to its range; gradients by the scale that saves them from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.codec.errors import PayloadError
from splitpoint.codec.halves import half_bytes, read_halves, round_to_wire
from splitpoint.codec.nested import LARGEST
from splitpoint.codec.train_step import gradient_bytes, read_classes, read_gradient

HUGE = np.array([[-1e30, -65504.0, 1.0], [1.0 + 2.0**-12, 65520.0, 1e30]], np.float32)


def test_what_float16_cannot_hold_is_clipped_at_both_ends() -> None:
    expected = [[-LARGEST, -LARGEST, 1.0], [1.0, LARGEST, LARGEST]]
    assert read_halves("x", half_bytes(HUGE), (2, 3)).tolist() == expected
    assert round_to_wire(HUGE).tolist() == expected
    for values in (HUGE[:, :2], HUGE[:, 1:]):
        assert read_halves("x", half_bytes(values), (2, 2)).tolist() == round_to_wire(values).tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_by_field(bad: float) -> None:
    values = np.array([0.0, bad, 1.0], np.float32)
    with pytest.raises(PayloadError, match=r"exit_state\.state must be finite"):
        half_bytes(values, "exit_state.state")
    with pytest.raises(PayloadError, match=r"exit_state\.state must be finite"):
        read_halves("exit_state.state", values.astype("<f2").tobytes(), (3,))
    with pytest.raises(PayloadError, match="gradient"):
        gradient_bytes(values)


@given(st.lists(st.floats(-1.0, 1.0, width=32), min_size=1, max_size=20), st.integers(-60, 60))
def test_a_gradient_keeps_its_digits_however_small_or_large(values: list[float], exponent: int) -> None:
    gradient = (np.array(values) * 2.0**exponent).astype(np.float32)
    data, scale = gradient_bytes(gradient)
    assert math.frexp(scale)[0] == 0.5
    largest = float(np.abs(gradient).max())
    sent = float(np.abs(read_halves("x", data, gradient.shape)).max())
    assert 2.0**11 * (1 - 2**-10) <= sent <= 2.0**12 or scale == 2.0**60 or largest == 0.0
    back = read_gradient("gradient", data, gradient.shape, scale)
    # Of the largest: half a step of float16, and of what lies far below it no more than a subnormal's.
    assert np.abs(back - gradient).max() <= 2.0**-11 * largest + 2.0**-25 / scale


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 2.0**61])
def test_a_scale_that_cannot_be_is_refused(scale: float) -> None:
    with pytest.raises(PayloadError, match="gradient_scale"):
        read_gradient("gradient", bytes(4), (2,), scale)


@pytest.mark.parametrize(("data", "found"), [(b"\0\0\4\0", [0, 4]), (b"\0\0\5\0", None), (b"\0\0\4", None)])
def test_classes_are_below_their_number(data: bytes, found: Any) -> None:
    if found is None:
        with pytest.raises(PayloadError, match="classes"):
            read_classes(data, 2, 5)
    else:
        assert read_classes(data, 2, 5).tolist() == found
