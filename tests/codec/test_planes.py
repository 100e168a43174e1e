"""Bit planes: any prefix decodes to the leading bits, and planes sent later continue it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitpoint.codec.errors import PayloadError
from splitpoint.codec.planes import pack_planes, plane_bytes, unpack_planes

CODES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))


@given(CODES, st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_a_prefix_of_the_planes_gives_the_leading_bits(codes, bits):
    planes = pack_planes(codes, 0, bits)
    assert [len(plane) for plane in planes] == [plane_bytes(codes.size)] * bits
    assert (unpack_planes(planes, codes.size) == codes.ravel() >> (8 - bits)).all()


@given(CODES, st.integers(0, 8), st.integers(0, 8))
@settings(max_examples=50, deadline=None)
def test_planes_in_two_parts_are_the_planes_at_once(codes, a, b):
    first, stop = min(a, b), max(a, b)
    assert pack_planes(codes, 0, first) + pack_planes(codes, first, stop) == pack_planes(codes, 0, stop)


def test_the_first_code_stands_in_the_highest_bit():
    codes = np.array([[0x80, 0, 0x01, 0, 0, 0, 0, 0, 0x80]], np.uint8)
    planes = pack_planes(codes, 0, 8)
    assert planes[0] == bytes([0b1000_0000, 0b1000_0000])
    assert planes[7] == bytes([0b0010_0000, 0])


@pytest.mark.parametrize("planes", [[], [b"\0"] * 9, [b"\0\0"], [b""], [b"\0", b"\0\0"]])
def test_wrong_planes_are_refused(planes):
    with pytest.raises(PayloadError) as caught:
        unpack_planes(planes, 8)
    assert caught.value.field == "tokens.planes"


@pytest.mark.parametrize(("first", "stop"), [(-1, 2), (0, 9), (5, 4)])
def test_planes_out_of_range_are_refused(first, stop):
    with pytest.raises(PayloadError, match=r"tokens\.bits"):
        pack_planes(np.zeros((1, 1), np.uint8), first, stop)
