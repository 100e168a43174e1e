"""ADC in training: the identity at rate 1, means and their gradients elsewhere, never NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from splitpoint.codec.adc import merge, ratios, select
from splitpoint.models.adc import AdcDecoder, AdcEncoder, merge_tokens, merged_targets
from splitpoint.models.split_compression.base import Geometry

GEOMETRY = Geometry(tokens=10, dim=6, grid=(3, 3), classes=4)


def _batch(samples: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.normal(size=(samples, 10, 6)).astype(np.float32)).requires_grad_()
    attention = torch.from_numpy(random.dirichlet(np.ones(9), size=samples).astype(np.float32))
    return x, attention, torch.from_numpy(random.integers(0, 4, samples))


@pytest.mark.parametrize("samples", [12, 300])
def test_rate_one_is_the_identity_with_its_gradient(samples):
    """Of more samples than a message can name groups too: no groups are sent here."""
    x, attention, classes = _batch(samples)
    sent = AdcEncoder(GEOMETRY, 1.0, 0).encode(x, attention, classes, step=3)
    assert (sent.values == x).all()
    assert (sent.targets == classes).all()
    gradient = torch.randn_like(x)
    sent.values.backward(gradient)
    assert (x.grad == gradient).all()


def test_without_merging_each_sample_keeps_its_class_and_its_most_attended_tokens():
    x, attention, classes = _batch(12, seed=2)
    sent = AdcEncoder(GEOMETRY, 0.4, 0, rho_batch=1.0).encode(x, attention, classes, step=0)
    assert (sent.targets == classes).all()
    assert tuple(sent.values.shape) == (12, 4, 6) == AdcDecoder(GEOMETRY, 0.4, 0, 1.0).wire_shape(12)
    for sample in range(12):
        kept = [0, *sorted(1 + place for place in attention[sample].topk(3).indices.tolist())]
        assert (sent.values[sample] == x[sample, kept]).all()


def test_training_and_inference_merge_alike():
    x, attention, _ = _batch(20, seed=4)
    rho = ratios(0.2)
    expected = merge(x.detach().numpy(), attention.numpy(), *rho, seed=7, key=5)
    found = merge_tokens(x, select(attention.numpy(), *rho, seed=7, key=5))
    np.testing.assert_allclose(found.detach().numpy(), expected.tokens, atol=1e-6)


def test_the_gradient_of_a_mean_goes_to_its_samples_in_equal_parts():
    x, attention, _ = _batch(15, seed=1)
    selection = select(attention.numpy(), 0.3, 0.5, seed=2)
    merged = merge_tokens(x, selection)
    gradient = torch.randn_like(merged)
    merged.backward(gradient)
    sizes = np.bincount(selection.assignment)
    for sample, cluster in enumerate(selection.assignment):
        expected = torch.zeros(10, 6)
        expected[selection.kept[cluster]] = gradient[cluster] / sizes[cluster]
        torch.testing.assert_close(x.grad[sample], expected)


@given(st.integers(2, 40), st.floats(0.005, 1.0), st.booleans(), st.integers(0, 50))
@example(3, math.nextafter(1.0, 0.0), False, 0)  # a share of all but a rounding error is all
@settings(max_examples=40, deadline=None)
def test_values_and_labels_have_the_announced_shape_and_are_finite(samples, rate, alike, seed):
    x, attention, classes = _batch(samples, seed)
    if alike:  # all attention maps coincide: without care, empty clusters would divide by nothing
        attention = attention[:1].expand(samples, -1)
    sent = AdcEncoder(GEOMETRY, rate, seed).encode(x, attention, classes, step=seed)
    assert tuple(sent.values.shape) == AdcDecoder(GEOMETRY, rate, seed).wire_shape(sent.outputs)
    assert torch.isfinite(sent.values).all()
    assert sent.outputs == min(samples, max(2, math.floor(round(math.sqrt(rate) * samples, 9))))
    if sent.targets.ndim == 2:
        torch.testing.assert_close(sent.targets.sum(dim=1), torch.ones(sent.outputs))


def test_soft_labels_are_the_clusters_mean_one_hot():
    _, attention, classes = _batch(30, seed=6)
    selection = select(attention.numpy(), 0.2, 1.0, seed=0)
    soft = merged_targets(classes, selection, 4).numpy()
    for cluster in range(len(soft)):
        counts = np.bincount(classes.numpy()[selection.assignment == cluster], minlength=4)
        np.testing.assert_allclose(soft[cluster], counts / counts.sum(), rtol=1e-6)


def test_the_attention_gets_no_gradient():
    x, attention, classes = _batch(8)
    attention.requires_grad_()
    AdcEncoder(GEOMETRY, 0.2, 0).encode(x, attention, classes, 0).values.sum().backward()
    assert attention.grad is None


@pytest.mark.parametrize("seed", [0, 1])
def test_seed_and_step_decide_the_clusters(seed):
    x, attention, classes = _batch(40)

    def run(step):
        return AdcEncoder(GEOMETRY, 0.1, seed).encode(x, attention, classes, step).values

    assert (run(3) == run(3)).all()
    assert any((run(3) != run(step)).any() for step in range(4, 10))
