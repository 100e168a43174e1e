"""Symbol payloads: unit power, any prefix decodes, the receiver measures the noise, hostile messages are refused."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.codec.errors import PayloadError
from splitpoint.codec.symbols import SymbolCodec, measured_snr_db, symbol_count
from splitpoint.protos import splitpoint_pb2 as pb

DIM, MOST, HIDDEN, PATCHES, CUT = 12, 6, 16, 9, 2


def random_arrays(seed: int = 0, cut: int = CUT) -> dict[str, np.ndarray]:
    """The shapes of a code; the values are anything."""
    draws = np.random.default_rng(seed)
    layers = {
        "encoder.film.enter": (3, 16), "encoder.film.leave": (16, 2 * HIDDEN), "encoder.enter": (DIM, HIDDEN),
        "encoder.leave": (HIDDEN, 2 * MOST), "decoder.film.enter": (5, 16), "decoder.film.leave": (16, 2 * HIDDEN),
        "decoder.enter": (2 * MOST, HIDDEN), "decoder.middle_film.enter": (5, 16),
        "decoder.middle_film.leave": (16, 2 * HIDDEN), "decoder.middle": (HIDDEN, HIDDEN),
        "decoder.leave": (HIDDEN, DIM),
    }  # fmt: skip
    arrays = {"mean": draws.normal(size=DIM), "scale": draws.uniform(0.5, 2.0, DIM)}
    arrays["encoder.skip.weight"] = draws.normal(size=(DIM, 2 * MOST))
    for name, shape in layers.items():
        arrays[f"{name}.weight"] = draws.normal(size=shape) / shape[0] ** 0.5
        arrays[f"{name}.bias"] = 0.1 * draws.normal(size=shape[1])
    return {f"jscc.{cut}.{name}": value.astype(np.float32) for name, value in arrays.items()}


CODEC = SymbolCodec(random_arrays(), max_tokens=PATCHES + 1)


def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    tokens = draws.normal(0.0, draws.uniform(0.1, 30.0), (PATCHES + 1, DIM)).astype(np.float32)
    return tokens, draws.random(PATCHES).astype(np.float32)


def message(seed: int = 0, keep: float = 1.0, rate: float = 0.5, snr_db: float = 5.0) -> pb.Symbols:
    return CODEC.encode(*sample(seed), CUT, keep, rate, snr_db)[0]


def values_of(payload: pb.Symbols) -> np.ndarray:
    return np.frombuffer(payload.values, "<f2").astype(float).reshape(payload.count, payload.per_token, 2)


@given(
    seed=st.integers(0, 10**6),
    rate=st.floats(0.01, 0.5),
    keep=st.floats(0.05, 1.0),
    snr_db=st.floats(-40.0, 40.0),
)
def test_every_token_has_unit_power_at_every_rate(seed: int, rate: float, keep: float, snr_db: float) -> None:
    tokens, scores = sample(seed)
    payload, kept = CODEC.encode(tokens, scores, CUT, keep, rate, snr_db)
    assert payload.per_token == symbol_count(DIM, rate) <= rate * DIM + 1
    assert payload.count == len(kept) + 1
    assert len(payload.values) == 4 * payload.count * payload.per_token
    power = np.square(values_of(payload)).sum(axis=2).mean(axis=1)
    np.testing.assert_allclose(power, 1.0, atol=2e-3)  # float16


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), snr_db=st.floats(-20.0, 20.0))
def test_symbols_are_nested_and_any_prefix_decodes(seed: int, snr_db: float) -> None:
    whole = values_of(message(seed, rate=0.5, snr_db=snr_db))
    for count in (1, 3, MOST):
        payload = message(seed, rate=count / DIM, snr_db=snr_db)
        assert payload.per_token == count
        prefix = whole[:, :count]
        power = np.square(prefix).sum(axis=2).mean(axis=1)[:, None, None]
        np.testing.assert_allclose(values_of(payload), prefix / np.sqrt(power), atol=2e-2)
        decoded = CODEC.decode(payload, CUT)
        assert decoded.shape == (PATCHES + 1, DIM)
        assert decoded.dtype == np.float32
        assert np.isfinite(decoded).all()


def test_the_tokens_of_a_selection_are_those_of_the_whole() -> None:
    tokens, scores = sample(3)
    part, kept = CODEC.encode(tokens, scores, CUT, 0.4, 0.5, 3.0)
    whole, every = CODEC.encode(tokens, None, CUT, 1.0, 0.5, 3.0)
    np.testing.assert_array_equal(every, np.arange(PATCHES))
    np.testing.assert_allclose(values_of(part), values_of(whole)[[0, *(kept + 1)]], atol=1e-3)


def test_without_an_estimate_the_middle_of_the_span_is_taken() -> None:
    assert message(snr_db=math.nan) == message(snr_db=0.0)


@pytest.mark.parametrize("true_db", [-15.0, -5.0, 0.0, 8.0])
@pytest.mark.parametrize("error_db", [-10.0, 0.0, 10.0])
def test_the_noise_is_measured_where_the_estimate_is_stale(true_db: float, error_db: float) -> None:
    draws = np.random.default_rng(7)
    count = 800
    noise = (
        10 ** (-0.05 * true_db) * np.sqrt(0.5) * (draws.normal(size=count) + 1j * draws.normal(size=count))
    )
    received = np.exp(2j * np.pi * draws.random(count)) + noise
    found = measured_snr_db(float(np.square(np.abs(received)).mean()), count, true_db + error_db)
    assert found == pytest.approx(true_db, abs=3.0)


def test_the_estimate_and_what_is_seen_are_weighed_by_their_precisions() -> None:
    # A noise of 1 is believed to a half of it: precision 4. Twelve symbols see 2, with precision 12 / (2 + 1).
    assert measured_snr_db(3.0, 12, 0.0) == pytest.approx(-10.0 * math.log10((4.0 * 1.0 + 4.0 * 2.0) / 8.0))
    assert measured_snr_db(1.5, 5, 10.0) == pytest.approx(
        -10.0 * math.log10((400 * 0.1 + 5 / 0.21 * 0.5) / (400 + 5 / 0.21))
    )


def test_the_measured_snr_stays_in_the_span() -> None:
    assert measured_snr_db(0.0, 100, 0.0) == pytest.approx(20.0)
    assert measured_snr_db(1e9, 100, 0.0) == pytest.approx(-20.0)
    assert measured_snr_db(1.0, 100_000, 300.0) == pytest.approx(20.0)


def test_rates_are_counted_in_whole_symbols() -> None:
    assert [symbol_count(96, rate) for rate in (0.5, 0.25, 0.1, 0.05, 1e-6)] == [48, 24, 9, 4, 1]
    assert symbol_count(100, 0.29) == 29


def test_a_rate_or_cut_without_a_code_is_refused() -> None:
    with pytest.raises(PayloadError, match="at most 6 a token"):
        message(rate=0.6)
    with pytest.raises(PayloadError, match="no joint code at cut 1 of this model, only at 2"):
        CODEC.encode(*sample(0), 1, 1.0, 0.5, 0.0)
    with pytest.raises(PayloadError, match="nor at any other"):
        SymbolCodec({}).decode(pb.Symbols(), 1)


def test_tokens_that_are_not_finite_are_refused() -> None:
    tokens, scores = sample(0)
    tokens[4, 3] = np.nan
    with pytest.raises(PayloadError, match="tokens must be finite"):
        CODEC.encode(tokens, scores, CUT, 1.0, 0.5, 0.0)
    with pytest.raises(PayloadError, match="shape"):
        CODEC.encode(tokens[:, 1:], scores, CUT, 1.0, 0.5, 0.0)


HUGE = 2**32 - 1


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("count", {"count": 0}),
        ("count", {"count": PATCHES + 2}),
        ("count", {"count": HUGE}),
        ("per_token", {"per_token": 0}),
        ("per_token", {"per_token": MOST + 1}),
        ("per_token", {"per_token": HUGE}),
        ("values", {"values": b""}),
        ("values", {"values": bytes(4 * MOST * (PATCHES + 1) - 1)}),
        ("values", {"values": bytes(4 * MOST * (PATCHES + 1) + 4)}),
        ("values", {"values": struct.pack("<e", math.nan) * 2 * MOST * (PATCHES + 1)}),
        ("values", {"values": struct.pack("<e", -math.inf) * 2 * MOST * (PATCHES + 1)}),
        ("snr_db", {"snr_db": math.nan}),
        ("snr_db", {"snr_db": math.inf}),
        ("code_crc", {"code_crc": 0}),
    ],
)
def test_what_does_not_fit_is_refused_by_name(field: str, changes: dict[str, object]) -> None:
    payload = message()
    for name, value in changes.items():
        setattr(payload, name, value)
    with pytest.raises(PayloadError) as caught:
        CODEC.decode(payload, CUT)
    assert caught.value.field == f"symbols.{field}"


def test_symbols_of_a_code_that_was_trained_anew_are_refused() -> None:
    arrays = random_arrays()
    assert SymbolCodec(dict(reversed(arrays.items()))).decode(message(), CUT).shape == (PATCHES + 1, DIM)
    arrays[f"jscc.{CUT}.decoder.leave.bias"] += 0.01
    with pytest.raises(PayloadError, match="code_crc"):
        SymbolCodec(arrays).decode(message(), CUT)


def test_a_missing_estimate_is_refused() -> None:
    payload = message()
    payload.ClearField("snr_db")
    with pytest.raises(PayloadError, match="snr_db"):
        CODEC.decode(payload, CUT)


@given(data=st.binary(min_size=4 * 2 * 3, max_size=4 * 2 * 3), snr_db=st.floats(-1e6, 1e6))
def test_any_finite_symbols_give_finite_tokens(data: bytes, snr_db: float) -> None:
    payload = pb.Symbols(count=3, per_token=2, values=data, snr_db=snr_db, code_crc=CODEC.layers(CUT).crc)
    if np.isfinite(np.frombuffer(data, "<f2")).all():
        assert np.isfinite(CODEC.decode(payload, CUT)).all()
    else:
        with pytest.raises(PayloadError, match="finite"):
            CODEC.decode(payload, CUT)
