"""The rivals: what they send, that it comes back as their papers say, and what hostile indices meet."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.codec.errors import PayloadError
from splitpoint.errors import UsageError
from splitpoint.models.split_compression.base import Geometry
from splitpoint.models.split_compression.bottlenet import BottleNetEncoder, bottleneck_shape
from splitpoint.models.split_compression.c3_sl import C3Decoder, C3Encoder, keys
from splitpoint.models.split_compression.gaps import pack_positions, unpack_positions
from splitpoint.models.split_compression.methods import METHODS, build_decoder, build_encoder
from splitpoint.models.split_compression.top_k import RandomTopKEncoder, TopKEncoder, kept_values

from .conftest import tiny_card

CARD = tiny_card()
GEOMETRY = Geometry(tokens=25, dim=16, grid=(4, 6), classes=4)


def _batch(samples=8, seed=0, geometry=GEOMETRY):
    random = np.random.default_rng(seed)
    x = random.normal(size=(samples, geometry.tokens, geometry.dim)).astype(np.float32)
    attention = random.dirichlet(np.ones(geometry.tokens - 1), size=samples).astype(np.float32)
    classes = torch.from_numpy(random.integers(0, geometry.classes, samples))
    return torch.from_numpy(x).requires_grad_(), torch.from_numpy(attention), classes


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("rate", [0.12, 0.5])
def test_what_is_sent_decodes_and_its_gradient_has_its_shape(method, rate):
    encoder, decoder = build_encoder(method, CARD, rate, 3), build_decoder(method, CARD, rate, 3)
    x, attention, classes = _batch()
    sent = encoder.encode(x, attention, classes, step=1)
    assert tuple(sent.values.shape) == decoder.wire_shape(sent.outputs)
    values = sent.values.detach().requires_grad_()
    decoded = decoder.decode(values, sent.indices, sent.outputs)
    assert decoded.shape[0] == sent.outputs
    assert decoded.shape[2] == 16
    decoded.square().sum().backward()
    sent.values.backward(values.grad)
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0
    assert bool(sent.indices) == decoder.indexed
    if method != "none":  # of B n d values at most the wanted fraction, but for what cannot be smaller
        assert sent.values.numel() <= rate * x.numel() * 1.1


@pytest.mark.parametrize("method", ["adc", "c3-sl", "none", "top-k"])
def test_at_rate_one_the_other_side_gets_the_activation(method):
    encoder, decoder = build_encoder(method, CARD, 1.0, 0), build_decoder(method, CARD, 1.0, 0)
    x, attention, classes = _batch()
    sent = encoder.encode(x, attention, classes, step=0)
    torch.testing.assert_close(
        decoder.decode(sent.values, sent.indices, sent.outputs), x, atol=1e-5, rtol=1e-5
    )


def test_top_k_keeps_the_largest_magnitudes_and_only_they_get_a_gradient():
    x, attention, classes = _batch()
    sent = TopKEncoder(GEOMETRY, 0.1, 0).encode(x, attention, classes, 0)
    k = math.floor(0.1 * 400)
    decoded = build_decoder("top-k", CARD, 0.1, 0).decode(sent.values, sent.indices, 8)
    flat, found = x.detach().flatten(1), decoded.detach().flatten(1)
    for row in range(8):
        largest = flat[row].abs().topk(k).indices
        assert set(found[row].nonzero().flatten().tolist()) == set(largest.tolist())
        assert (found[row][largest] == flat[row][largest]).all()
    sent.values.sum().backward()
    assert ((x.grad.flatten(1) != 0) == (found != 0)).all()


def test_rates_that_are_whole_numbers_give_these():
    """29 of 96 channels are 29, though 29 / 96 * 96 is a little less; so are values."""
    geometry = Geometry(65, 96, (8, 8), 10)
    for channels in range(25, 97):
        assert bottleneck_shape(geometry, channels / 96)[2] == channels
    hundred = Geometry(5, 20, (2, 2), 10)
    assert [kept_values(hundred, kept / 100) for kept in range(1, 101)] == list(range(1, 101))


def test_random_top_k_takes_a_tenth_from_the_others():
    x, attention, classes = _batch(samples=60)
    encoder = RandomTopKEncoder(GEOMETRY, 0.2, 5)
    k, outside = kept_values(GEOMETRY, 0.2), 0
    for step in range(5):
        sent = encoder.encode(x, attention, classes, step)
        positions = unpack_positions(sent.indices, 60, k, 400)
        assert (np.diff(positions, axis=1) > 0).all()
        top = x.detach().flatten(1).abs().topk(k, dim=1).indices.numpy()
        outside += sum(len(set(row) - set(best)) for row, best in zip(positions, top, strict=True))
    # 5 * 60 * 80 draws with probability .1: five standard deviations are 0.0097.
    assert abs(outside / (5 * 60 * k) - 0.1) < 0.0097
    again = RandomTopKEncoder(GEOMETRY, 0.2, 5).encode(x, attention, classes, 4)
    assert again.indices == sent.indices


@given(st.integers(1, 5), st.integers(1, 2000), st.floats(0.0, 1.0), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_positions_survive_packing(rows, length, share, seed):
    random = np.random.default_rng(seed)
    kept = max(1, int(share * length))
    positions = np.sort(np.stack([random.permutation(length)[:kept] for _ in range(rows)]), axis=1)
    assert (unpack_positions(pack_positions(positions), rows, kept, length) == positions).all()


def test_positions_cost_little_more_than_their_entropy():
    random = np.random.default_rng(0)
    positions = np.sort(np.stack([random.permutation(4160)[:416] for _ in range(32)]), axis=1)
    p = 416 / 4160
    entropy = 32 * 4160 * -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) / 8
    assert len(pack_positions(positions)) < 1.05 * entropy


def _deflated(stream: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(stream) + packer.flush()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xff\xff", _deflated(bytes(9)), _deflated(bytes(11)), _deflated(bytes(9) + b"\xff"),
     _deflated(bytes(9) + b"\x64"), _deflated(bytes(10)) + b"x", _deflated(b"\xff" * 50_000_000)],
    ids=["empty", "no deflate", "too few", "too many", "no end", "beyond", "trailing", "bomb"],
)  # fmt: skip
def test_hostile_positions_are_refused(data):
    with pytest.raises(PayloadError, match="indices"):
        unpack_positions(data, 2, 5, 100)


def test_c3_keys_have_unit_norm_and_are_nearly_orthogonal():
    found = keys(Geometry(65, 64, (8, 8), 10), 0.1, 0)
    gram = (found @ found.T).numpy()
    np.testing.assert_allclose(np.diag(gram), 1.0, rtol=1e-5)
    assert np.abs(gram - np.eye(10)).max() < 6 / math.sqrt(65 * 64)


def test_c3_brings_back_each_sample_with_the_noise_of_its_group():
    geometry = Geometry(tokens=65, dim=64, grid=(8, 8), classes=10)
    x, attention, classes = _batch(8, geometry=geometry)
    sent = C3Encoder(geometry, 0.25, 1).encode(x, attention, classes, 0)
    assert sent.values.shape[0] == 2
    found = C3Decoder(geometry, 0.25, 1).decode(sent.values, b"", 8).detach()
    # Correlation with an own random key returns the sample with a unit of noise energy, each other adds one.
    noise = ((found - x.detach()) ** 2).flatten(1).sum(dim=1) / (x.detach() ** 2).flatten(1).sum(dim=1)
    assert (noise - 4.0).abs().max() < 0.6


def test_c3_cuts_a_batch_into_equal_groups():
    geometry = Geometry(tokens=65, dim=64, grid=(8, 8), classes=10)
    x, attention, classes = _batch(32, geometry=geometry)
    tenth, eighth = (C3Encoder(geometry, rate, 1).encode(x, attention, classes, 0) for rate in (0.1, 0.125))
    assert tenth.values.shape == eighth.values.shape
    found = C3Decoder(geometry, 0.1, 1).decode(tenth.values, b"", 32).detach()
    noise = ((found - x.detach()) ** 2).flatten(1).sum(dim=1) / (x.detach() ** 2).flatten(1).sum(dim=1)
    assert noise.mean() == pytest.approx(8.0, abs=0.6)


def test_a_batch_that_c3_cannot_divide_comes_back_whole():
    x, attention, classes = _batch(7)
    sent = C3Encoder(GEOMETRY, 0.25, 0).encode(x, attention, classes, 0)
    decoder = C3Decoder(GEOMETRY, 0.25, 0)
    assert sent.values.shape[0] == decoder.wire_shape(7)[0] == 2
    assert decoder.decode(sent.values, b"", 7).shape == x.shape


def test_bottlenet_layers_are_a_function_of_the_seed_alone():
    first = BottleNetEncoder(GEOMETRY, 0.1, 4)
    torch.rand(3)
    assert torch.equal(first.patches.weight, BottleNetEncoder(GEOMETRY, 0.1, 4).patches.weight)
    assert not torch.equal(first.patches.weight, BottleNetEncoder(GEOMETRY, 0.1, 5).patches.weight)


@pytest.mark.parametrize(
    ("method", "rate"), [("c3-sl", 0.001), ("bottlenet++", 0.001), ("adc", 1.5), ("none", 0.0)]
)
def test_a_rate_that_cannot_be_met_is_an_error(method, rate):
    with pytest.raises(UsageError, match="rate"):
        build_decoder(method, CARD, rate, 0)


def test_an_unknown_method_names_its_neighbour():
    with pytest.raises(UsageError, match="did you mean 'top-k'"):
        build_encoder("topk", CARD, 0.1, 0)


def test_only_adc_takes_a_share_of_clusters():
    with pytest.raises(UsageError, match="rho_batch is ADC's, top-k merges nothing"):
        build_encoder("top-k", CARD, 0.1, 0, 0.5)
    with pytest.raises(UsageError, match=r"rho_batch must be 0 or in 0\.1\.\.1"):
        build_decoder("adc", CARD, 0.1, 0, 0.05)
