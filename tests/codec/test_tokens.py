"""Tokens to payloads and back: exact up to the stated error, and PayloadError for what does not fit."""

import time

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.codec.adc import group_count
from splitpoint.codec.entropy import fit_tables
from splitpoint.codec.errors import PayloadError
from splitpoint.codec.planes import plane_bytes
from splitpoint.codec.refinement import extended
from splitpoint.codec.selection import kept_tokens
from splitpoint.codec.tokens import TokenCodec
from splitpoint.errors import UsageError
from splitpoint.protos import splitpoint_pb2 as pb

PATCHES, DIM, CUT = 16, 12, 2
TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0].astype(np.float32)


def sample(seed: int):
    random = np.random.default_rng(seed)
    spread = np.arange(1, DIM + 1) ** -1.5
    tokens = (random.normal(size=(PATCHES + 1, DIM)) * spread).astype(np.float32) @ TURN.T
    return tokens, random.random(PATCHES).astype(np.float32)


BASIS = {f"codec.{CUT}.mean": np.zeros(DIM), f"codec.{CUT}.down": TURN, f"codec.{CUT}.up": TURN.T}
PLAIN = TokenCodec({}, dim=DIM, max_tokens=PATCHES + 1)
TRAINED = TokenCodec(
    {
        **BASIS,
        f"codec.{CUT}.tables": fit_tables(
            [
                TokenCodec(BASIS).quantised(*sample(seed), CUT, 1.0, dims)[0]
                for seed in range(100)
                for dims in (4, DIM)
            ],
            DIM,
        ),
    },
    max_tokens=PATCHES + 1,
)
RESTED = TokenCodec({**BASIS, f"codec.{CUT}.rest": np.array([1], np.uint8)}, max_tokens=PATCHES + 1)
OTHER_TABLES = {f"codec.{CUT}.tables": fit_tables([], DIM)}


@given(
    st.integers(0, 1000),
    st.floats(0.01, 1.0),
    st.integers(1, DIM),
    st.integers(1, 8),
    st.sampled_from([pb.CODER_PACKED, pb.CODER_ANS]),
)
@settings(max_examples=100, deadline=None)
def test_what_is_decoded_is_within_half_a_cell_of_what_was_sent(seed, keep, dims, bits, coder):
    tokens, scores = sample(seed)
    message, kept = TRAINED.encode(tokens, scores, CUT, keep, dims, bits, coder)
    back = TRAINED.decode(pb.Tokens.FromString(message.SerializeToString()), CUT)
    assert kept.tolist() == kept_tokens(scores, keep).tolist()
    assert back.shape == (len(kept) + 1, DIM)
    packed, _ = TRAINED.encode(tokens, scores, CUT, keep, dims, bits)
    assert (message.ByteSize() < packed.ByteSize()) == (message.coder == pb.CODER_ANS)
    assert message == packed or message.coder == pb.CODER_ANS
    sent = tokens[[0, *(kept + 1)]] @ TURN[:, :dims]
    half_cell = np.frombuffer(message.scale, "<f2").astype(np.float32)[:, None] * 2.0 ** (7 - bits)
    assert (np.abs(back @ TURN[:, :dims] - sent) <= half_cell * 1.001 + 1e-5).all()


def test_eight_bits_and_all_tokens_and_dims_are_nearly_the_tokens():
    tokens, scores = sample(1)
    for codec in (PLAIN, TRAINED):
        back = codec.decode(codec.encode(tokens, scores, CUT)[0], CUT)
        assert np.abs(back - tokens).max() < 0.03


def test_cls_comes_first_and_patches_in_order():
    tokens = np.tile(np.arange(PATCHES + 1, dtype=np.float32)[:, None], (1, DIM))
    scores = np.arange(PATCHES, dtype=np.float32)
    message, kept = PLAIN.encode(tokens, scores, CUT, keep=0.25)
    assert kept.tolist() == [12, 13, 14, 15]
    assert PLAIN.decode(message, CUT)[:, 0].tolist() == [0, 13, 14, 15, 16]


def test_the_payload_is_as_long_as_its_shape_says():
    tokens, scores = sample(2)
    message, _ = PLAIN.encode(tokens, scores, CUT, keep=0.5, dims=10, bits=3)
    count = PATCHES // 2 + 1
    # Three tagged varints, two tagged float16 for all tokens, and a plane a bit, with its tag and length.
    assert message.ByteSize() == 6 + 2 * (2 + 2) + 3 * (2 + (count * 10 + 7) // 8)
    other, _ = PLAIN.encode(*sample(3), CUT, keep=0.5, dims=10, bits=3)
    assert other.ByteSize() == message.ByteSize()


def test_ranges_of_their_own_and_a_shared_one_are_told_apart():
    wide = np.ones((PATCHES + 1, DIM), np.float32)
    wide[:, 0], wide[0, 0] = 0.0, 512.0
    message, _ = TokenCodec({}, dim=DIM).encode(np.repeat(wide, 4, axis=1)[:, :DIM], None, CUT)
    assert len(message.offset) == len(message.scale) == 2
    codec = TokenCodec({}, dim=64)
    tokens = np.concatenate([wide, np.zeros((PATCHES + 1, 64 - DIM), np.float32)], axis=1)
    message, _ = codec.encode(tokens, None, CUT)
    assert len(message.offset) == len(message.scale) == 2 * (PATCHES + 1)
    assert np.abs(codec.decode(message, CUT)[1:] - tokens[1:]).max() <= 1 / 512 + 1e-6
    message.scale = message.scale[:2]
    with pytest.raises(PayloadError) as caught:
        codec.decode(message, CUT)
    assert caught.value.field == "tokens.scale"


@pytest.mark.parametrize("coder", [pb.CODER_PACKED, pb.CODER_ANS])
@pytest.mark.parametrize(("first", "stop"), [(1, 2), (2, 8), (7, 8)])
def test_further_planes_refine_a_payload_to_what_more_bits_would_have_been(coder, first, stop):
    quantised, _ = TRAINED.quantised(*sample(4), CUT, 0.5, 8)
    coarse = TRAINED.message(quantised, CUT, first, coder)
    finer = extended(coarse, TRAINED.further_planes(quantised, CUT, first, stop, coder))
    assert coder == pb.CODER_ANS or finer == TRAINED.message(quantised, CUT, stop, coder)
    assert (TRAINED.decode(finer, CUT) == TRAINED.decode(TRAINED.message(quantised, CUT, stop), CUT)).all()
    assert coarse.bits == first


@pytest.mark.parametrize("count", [0, 7])
def test_too_few_or_too_many_further_planes_are_refused(count):
    message, _ = PLAIN.encode(*sample(5), CUT, bits=2)
    with pytest.raises(PayloadError) as caught:
        extended(message, [b""] * count)
    assert caught.value.field == "planes"


def test_what_is_coded_names_its_tables_and_other_tables_are_refused():
    tokens, scores = sample(8)
    message, _ = TRAINED.encode(tokens, scores, CUT, coder=pb.CODER_ANS)
    assert (message.coder, message.tables_crc) == (pb.CODER_ANS, TRAINED.tables_crc)
    assert not TRAINED.encode(tokens, scores, CUT)[0].HasField("tables_crc")
    table = OTHER_TABLES[f"codec.{CUT}.tables"]
    for other in ({f"codec.{CUT}.tables": table}, {f"codec.{CUT + 1}.tables": table, **OTHER_TABLES}):
        codec = TokenCodec({**BASIS, **other})
        assert codec.tables_crc not in (0, TRAINED.tables_crc)
        with pytest.raises(PayloadError) as caught:
            codec.decode(message, CUT)
        assert caught.value.field == "tokens.tables_crc"
    assert PLAIN.tables_crc == 0


def test_a_coder_that_saves_less_than_its_name_costs_is_not_used():
    quantised, _ = TRAINED.quantised(*sample(9), CUT, 0.2, 5)
    planes = TRAINED.planes(quantised, CUT, 0, 8, pb.CODER_ANS)
    saved = 8 * plane_bytes(quantised.codes.size) - sum(map(len, planes))
    assert saved <= 7
    assert TRAINED.message(quantised, CUT, 8, pb.CODER_ANS) == TRAINED.message(quantised, CUT, 8)


def test_a_coder_that_is_not_to_be_had_becomes_packing():
    assert PLAIN.coders(CUT) == (pb.CODER_PACKED,)
    assert set(TRAINED.coders(CUT)) == {pb.CODER_PACKED, pb.CODER_ANS}
    assert TRAINED.coders(CUT + 1) == (pb.CODER_PACKED,)
    message, _ = PLAIN.encode(*sample(6), CUT, coder=pb.CODER_ANS)
    assert message.coder == pb.CODER_PACKED
    assert PLAIN.decode(message, CUT).shape == (PATCHES + 1, DIM)


def test_encoding_65_tokens_of_96_dims_takes_well_under_a_millisecond():
    codec = TokenCodec({}, dim=96)
    random = np.random.default_rng(0)
    tokens, scores = random.normal(size=(65, 96)).astype(np.float32), random.random(64).astype(np.float32)
    times = []
    for _ in range(100):
        start = time.perf_counter()
        codec.encode(tokens, scores, 1, keep=0.9, bits=8)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("tokens", {"tokens": np.zeros((0, DIM), np.float32)}),
        ("tokens", {"tokens": np.zeros((PATCHES + 1, DIM + 1), np.float32)}),
        ("tokens", {"tokens": np.full((PATCHES + 1, DIM), np.nan, np.float32)}),
        ("scores", {"scores": np.zeros(PATCHES - 1, np.float32)}),
        ("scores", {"scores": None, "keep": 0.5}),
        ("keep", {"keep": 0.0}),
        ("tokens.dims", {"dims": DIM + 1}),
        ("tokens.bits", {"bits": 0}),
        ("tokens.bits", {"bits": 9}),
    ],
)
def test_what_cannot_be_encoded_is_refused_by_field(field, change):
    tokens, scores = sample(7)
    with pytest.raises(PayloadError) as caught:
        PLAIN.encode(**{"tokens": tokens, "scores": scores, "cut": CUT, **change})
    assert caught.value.field == field


def halves(*values: float) -> bytes:
    return np.array(values, "<f2").tobytes()


def payload(**changes) -> pb.Tokens:
    fields = {"count": 2, "dims": 4, "bits": 2, "offset": halves(0, 0), "scale": halves(1, 1)}
    return pb.Tokens(**{**fields, "planes": [b"\1", b"\2"], **changes})


def test_the_payload_that_the_bad_ones_are_made_from_is_good():
    assert PLAIN.decode(payload(), CUT).shape == (2, DIM)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("tokens.count", {"count": 0}),
        ("tokens.count", {"count": PATCHES + 2}),
        ("tokens.count", {"count": 2**32 - 1}),
        ("tokens.dims", {"dims": 0}),
        ("tokens.dims", {"dims": DIM + 1}),
        ("tokens.dims", {"dims": 2**31}),
        ("tokens.bits", {"bits": 0}),
        ("tokens.bits", {"bits": 9}),
        ("tokens.bits", {"bits": 2**32 - 1}),
        ("tokens.offset", {"offset": b""}),
        ("tokens.offset", {"offset": b"\0" * 5}),
        ("tokens.offset", {"offset": halves(0, np.nan)}),
        ("tokens.offset", {"offset": halves(0, -np.inf)}),
        ("tokens.scale", {"scale": halves(1)}),
        ("tokens.scale", {"scale": halves(1, 1, 1)}),
        ("tokens.scale", {"scale": halves(np.inf, 1)}),
        ("tokens.scale", {"scale": halves(np.nan, 1)}),
        ("tokens.scale", {"scale": halves(1, -1)}),
        ("tokens.planes", {"planes": []}),
        ("tokens.planes", {"planes": [b"\1"]}),
        ("tokens.planes", {"planes": [b"\1"] * 3}),
        ("tokens.planes", {"planes": [b"\1", b""]}),
        ("tokens.planes", {"planes": [b"\1\1", b"\2"]}),
        ("tokens.coder", {"coder": pb.CODER_ANS}),
        ("tokens.coder", {"coder": 77}),
        ("tokens.groups.assignment", {"groups": pb.AdcGroups(samples=3, assignment=b"\0\1")}),
        ("tokens.groups.assignment", {"groups": pb.AdcGroups()}),
        ("tokens.groups.assignment", {"groups": pb.AdcGroups(samples=2, assignment=b"\0\2")}),
        ("tokens.groups.assignment", {"groups": pb.AdcGroups(samples=2**32 - 1, assignment=b"\0")}),
        ("tokens.offset", {"groups": pb.AdcGroups(samples=2, assignment=b"\0\1")}),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_by_field(field, changes):
    with pytest.raises(PayloadError) as caught:
        PLAIN.decode(payload(**changes), CUT)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_values_that_overflow_behind_the_map_are_refused():
    arrays = {"codec.1.mean": np.zeros(4), "codec.1.down": np.eye(4), "codec.1.up": np.eye(4) * 1e38}
    with pytest.raises(PayloadError, match="not finite"):
        TokenCodec(arrays).decode(payload(scale=halves(1000, 1)), 1)


MUTATED = TRAINED.encode(*sample(8), CUT, 0.5, 8, 4, pb.CODER_ANS)[0].SerializeToString()


@given(st.lists(st.tuples(st.integers(0, len(MUTATED) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_mutated_payloads_decode_to_finite_tokens_or_a_payload_error(changes):
    data = bytearray(MUTATED)
    for place, value in changes:
        data[place] = value
    try:
        message = pb.Tokens.FromString(bytes(data))
    except DecodeError:
        return
    try:
        tokens = TRAINED.decode(message, CUT)
    except PayloadError as error:
        problem = error.field
    else:
        problem = "tokens."
        assert tokens.shape == (message.count, DIM)
        assert np.isfinite(tokens).all()
    assert problem.startswith("tokens.")


def test_the_dim_comes_from_the_model_or_must_be_given():
    message, _ = PLAIN.encode(*sample(9), CUT)
    with pytest.raises(UsageError, match="dim"):
        TokenCodec({}).decode(message, CUT)
    assert TokenCodec(BASIS).decode(message, CUT + 1).shape == (PATCHES + 1, DIM)


@given(st.binary(max_size=40).map(lambda data: bytes(value % 5 for value in data)))
def test_groups_are_counted_where_none_is_left_out(assignment):
    message = pb.Tokens(groups=pb.AdcGroups(samples=len(assignment), assignment=assignment))
    if set(assignment) == set(range(len(set(assignment)))) != set():
        assert group_count(message) == len(set(assignment))
    else:
        with pytest.raises(PayloadError, match=r"tokens\.groups\.assignment must"):
            group_count(message)


@pytest.mark.parametrize(("keep", "rest"), [(0.01, 15), (0.5, 8), (0.99, 1), (1.0, 0)])
def test_a_rest_token_follows_cls_and_says_how_many_patches_it_stands_for(keep, rest):
    tokens, scores = sample(5)
    message, kept = RESTED.encode(tokens, scores, CUT, keep, DIM, 8)
    assert (message.rest, message.count) == (rest, 1 + bool(rest) + PATCHES - rest)
    back = RESTED.decode(pb.Tokens.FromString(message.SerializeToString()), CUT)
    others = np.delete(tokens, [0, *(kept + 1)], axis=0)
    if rest:
        np.testing.assert_allclose(back[1], others.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(back[1 + bool(rest) :], tokens[kept + 1], atol=0.02)
    # Elsewhere the same model sends none.
    assert not RESTED.sends_rest(CUT + 1)


def spoiled(**changes):
    message, _ = RESTED.encode(*sample(5), CUT, 0.5, DIM, 4)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (spoiled(rest=9), "tokens.rest"),
        (spoiled(rest=2**32 - 1), "tokens.rest"),
        (spoiled(count=1), "tokens.count"),
    ],
)
def test_a_rest_that_cannot_be_is_refused(message, field):
    with pytest.raises(PayloadError) as caught:
        RESTED.decode(message, CUT)
    assert caught.value.field == field


def test_groups_have_no_rest_token():
    message = spoiled()
    message.groups.samples, message.groups.assignment = 1, b"\0"
    with pytest.raises(PayloadError, match="groups"):
        RESTED.decode(message, CUT)
