"""Entropy coding: exact for any codes, shorter for likely ones, and safe against any bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.codec import entropy
from splitpoint.codec.entropy import (
    CodeTables,
    available_coders,
    decode_planes,
    encode_planes,
    fit_tables,
    is_table,
    tables_crc,
)
from splitpoint.codec.errors import PayloadError
from splitpoint.codec.nested import Quantised, quantise
from splitpoint.codec.planes import pack_planes
from splitpoint.errors import DataError
from splitpoint.protos import splitpoint_pb2 as pb

DIM = 24
SPREAD = np.arange(1, DIM + 1, dtype=np.float32) ** -0.8


def sample(seed: int, rows: int = 17, dims: int = DIM) -> Quantised:
    """Tokens whose leading dims vary most, as after a principal-component map."""
    x = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32) * SPREAD
    return quantise(x[:, :dims])


# A shared range is the wider the more tokens share it: the tables see both numbers of rows that are coded below.
ARRAY = fit_tables(
    [sample(seed, rows, dims) for seed in range(100) for rows in (17, 65) for dims in (DIM, DIM // 2)], DIM
)
TABLES = CodeTables(ARRAY)
CLASSES = (ARRAY.size - 1 - DIM) // 511


def decoded(planes, quantised, tables=TABLES):
    return decode_planes(planes, quantised.offset, quantised.scale, *quantised.codes.shape, tables)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, DIM), st.integers(1, 8), st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_codes_come_back_exactly(seed, rows, dims, bits, likely):
    quantised = sample(seed, rows, dims)
    if not likely:
        noise = np.random.default_rng(seed).integers(0, 256, (rows, dims), dtype=np.uint8)
        quantised = quantised._replace(codes=noise)
    planes = encode_planes(quantised, 0, bits, TABLES)
    assert (decoded(planes, quantised) == quantised.codes.ravel() >> (8 - bits)).all()
    packed = pack_planes(quantised.codes, 0, bits)
    assert all(len(plane) <= len(other) for plane, other in zip(planes, packed, strict=True))


def test_planes_sent_later_are_the_planes_sent_at_once():
    quantised = sample(1000)
    parts = encode_planes(quantised, 0, 3, TABLES) + encode_planes(quantised, 3, 8, TABLES)
    assert parts == encode_planes(quantised, 0, 8, TABLES)


def test_a_plane_that_costs_nothing_is_empty_and_comes_back():
    quantised = Quantised(np.zeros((1, 1), np.uint8), np.zeros(1, np.float16), np.ones(1, np.float16))
    tables = CodeTables(fit_tables([quantised], 1))
    planes = encode_planes(quantised, 0, 8, tables)
    assert planes == [b""] * 8
    assert (decoded(planes, quantised, tables) == 0).all()


def test_likely_codes_become_much_shorter():
    samples = [sample(seed, rows=65) for seed in range(1000, 1010)]
    coded = sum(len(plane) for s in samples for plane in encode_planes(s, 0, 4, TABLES))
    packed = sum(len(plane) for s in samples for plane in pack_planes(s.codes, 0, 4))
    assert coded < 0.85 * packed


def test_the_length_is_near_the_models_entropy():
    quantised = sample(1001, rows=200)
    flat = quantised.codes.ravel().astype(np.int64)
    ones = TABLES.ones(
        TABLES.origins(quantised.offset, quantised.scale, len(quantised.codes), DIM), flat >> 7, 1
    )
    bit = flat >> 6 & 1
    cost_bytes = -np.log2(np.where(bit, ones, 1 - ones)).sum() / 8
    assert len(encode_planes(quantised, 1, 2, TABLES)[0]) == pytest.approx(cost_bytes, abs=9)


def test_without_the_library_planes_are_packed(monkeypatch):
    quantised = sample(1002)
    coded = encode_planes(quantised, 0, 4, TABLES)
    assert pb.CODER_ANS in available_coders()
    monkeypatch.setattr(entropy, "constriction", None)
    assert available_coders() == (pb.CODER_PACKED,)
    assert encode_planes(quantised, 0, 4, TABLES) == pack_planes(quantised.codes, 0, 4)
    with pytest.raises(PayloadError, match=r"tokens\.planes"):
        decoded(coded, quantised)


@given(st.integers(0, 3), st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_bytes_decode_to_codes_or_a_payload_error(place, data):
    quantised = sample(1003)
    planes = encode_planes(quantised, 0, 4, TABLES)
    planes[place] = data
    try:
        codes = decoded(planes, quantised)
    except PayloadError as error:
        problem = error.field
    else:
        problem = None
        assert codes.shape == (quantised.codes.size,)
        assert codes.max() < 16
    assert problem in (None, "tokens.planes")


def test_a_damaged_plane_is_noticed_though_no_crc_was_checked():
    quantised = sample(1004, rows=65)
    noticed = 0
    for bit in range(0, 400, 4):
        planes = encode_planes(quantised, 0, 1, TABLES)
        damaged = bytearray(planes[0])
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decoded([bytes(damaged)], quantised)
        except PayloadError:
            noticed += 1
    assert noticed == 100


@pytest.mark.parametrize("planes", [[], [b"\0\0\0\0"] * 9])
def test_a_wrong_number_of_planes_is_refused(planes):
    with pytest.raises(PayloadError, match=r"tokens\.planes"):
        decoded(planes, sample(0))


def test_codes_are_counted_from_the_nearest_code_to_the_value_zero():
    """A part of the wire: both sides must look in the same place, where zero lies outside the range too."""
    offset = np.array([0.0, -100.4, -100.6, -255.0, -300.0, 7.0], np.float16)
    origins = TABLES.origins(offset, np.ones(6, np.float16), 6, DIM).reshape(6, DIM)
    assert (origins[:1] - origins)[:, 0].tolist() == [0, 100, 101, 255, 255, 0]
    assert (origins[:1] - origins == (origins[:1] - origins)[:, :1]).all()


def test_only_a_codecs_tables_name_the_tables():
    arrays = {"codec.1.tables": ARRAY}
    assert tables_crc({**arrays, "codec.1.mean": ARRAY, "head.tables": ARRAY}) == tables_crc(arrays) != 0
    assert not is_table("head.tables")


def test_more_dims_than_the_tables_have_are_refused():
    with pytest.raises(PayloadError, match=r"tokens\.dims"):
        TABLES.origins(np.zeros(1, np.float16), np.ones(1, np.float16), 1, DIM + 1)


def test_tables_are_a_few_kilobytes_of_integers():
    assert ARRAY.dtype == np.uint16
    assert ARRAY.nbytes < 9_000


def test_tables_fitted_to_nothing_still_code():
    tables = CodeTables(fit_tables([], DIM))
    quantised = sample(1005)
    assert (
        decoded(encode_planes(quantised, 0, 8, tables), quantised, tables) == quantised.codes.ravel()
    ).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(0, np.uint16),
        np.array(DIM, np.uint16),
        ARRAY.astype(np.int64),
        ARRAY[:-1],
        ARRAY[: 1 + DIM],
        ARRAY.reshape(1, -1),
        np.concatenate((ARRAY[:1], [CLASSES], ARRAY[2:])).astype(np.uint16),
        np.concatenate((ARRAY[:-1], [0])).astype(np.uint16),
    ],
)
def test_wrong_tables_are_refused(array):
    with pytest.raises(DataError, match="codec tables"):
        CodeTables(array)
