import numpy as np
import pytest
import torch

from splitpoint.codec.tokens import TokenCodec
from splitpoint.models.compression import Bottleneck, compress, quantise, select
from splitpoint.models.losses import exit_loss, mixed_loss

from .conftest import tiny_network


def _started() -> tuple[Bottleneck, torch.Tensor]:
    torch.manual_seed(0)
    tokens = torch.randn(400, 16) @ torch.randn(16, 16) + torch.randn(16)
    bottleneck = Bottleneck(16)
    bottleneck.start_from(tokens)
    return bottleneck, tokens


@torch.no_grad()
def test_a_started_bottleneck_whitens_and_all_dims_give_everything_back() -> None:
    bottleneck, tokens = _started()
    z = bottleneck.project(tokens, 16)
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(16), atol=1e-4, rtol=0)
    covariance = torch.cov(z.T)
    torch.testing.assert_close(covariance, torch.diag(covariance.diagonal()), atol=1e-3, rtol=0)
    assert 0.9 < covariance.diagonal()[:8].min() <= covariance.diagonal().max() < 1.001
    torch.testing.assert_close(bottleneck.reconstruct(z), tokens, atol=1e-3, rtol=0)


@torch.no_grad()
def test_a_prefix_of_dims_is_the_best_of_its_rank() -> None:
    bottleneck, tokens = _started()
    centred = tokens - tokens.mean(dim=0)
    spectrum = torch.linalg.svdvals(centred)
    for dims in (1, 4, 12):
        error = (bottleneck.reconstruct(bottleneck.project(tokens, dims)) - tokens).pow(2).sum()
        assert error.item() == pytest.approx(spectrum[dims:].pow(2).sum().item(), rel=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(("keep", "dims", "bits"), [(1.0, 16, 8), (0.5, 8, 4), (0.1, 5, 2), (0.01, 1, 1)])
def test_training_compresses_as_the_codec_does(keep: float, dims: int, bits: int) -> None:
    bottleneck, _ = _started()
    tokens, scores = torch.randn(3, 25, 16), torch.rand(3, 24)
    simulated = compress(tokens, scores, bottleneck, keep, dims, bits)
    codec = TokenCodec({f"codec.1.{n}": p.detach().numpy() for n, p in bottleneck.named_parameters()})
    for row in range(3):
        message, _ = codec.encode(tokens[row].numpy(), scores[row].numpy(), 1, keep, dims, bits)
        decoded = codec.decode(message, 1)
        assert decoded.shape == tuple(simulated[row].shape)
        # The codec rounds offset and scale to half precision: now and then a value falls into the next cell.
        spread = float((simulated[row] - simulated[row].mean()).std())
        assert np.mean(np.abs(decoded - simulated[row].numpy())) < 0.02 * spread + 0.02


def test_quantisation_error_is_half_a_cell_and_the_gradient_passes() -> None:
    z = torch.randn(5, 12, requires_grad=True)
    for bits in range(1, 9):
        out = quantise(z, bits)
        cell = (z.amax(dim=1) - z.amin(dim=1)) / 2**bits
        assert ((out - z).abs().amax(dim=1) <= cell / 2 + 1e-5).all()
    quantise(z, 2).sum().backward()
    torch.testing.assert_close(z.grad, torch.ones_like(z))


def test_selection_keeps_cls_and_the_order() -> None:
    tokens = torch.arange(10.0).reshape(1, 5, 2)
    scores = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    assert select(tokens, scores, 0.5)[0, :, 0].tolist() == [0, 4, 8]
    assert select(tokens, scores, 1e-3).shape == (1, 2, 2)
    assert select(tokens, scores, 1.0) is tokens


def test_exit_loss_is_its_formula() -> None:
    qbar = torch.log(torch.tensor([[0.5, 0.4, 0.1], [0.05, 0.05, 0.9]]))
    labels = torch.tensor([0, 2])
    cross_entropy = -(np.log(0.5) + np.log(0.9)) / 2
    expected = (0.2 - 0.1) / 2 + 0.1 * cross_entropy
    assert exit_loss(qbar, labels, 0.2, 0.1).item() == pytest.approx(expected, rel=1e-5)


def test_exits_before_the_cut_see_clean_tokens_only() -> None:
    network = tiny_network()
    images, labels = torch.randn(4, 3, 16, 24), torch.tensor([0, 1, 2, 3])
    seen: list[tuple[int, torch.Tensor]] = []
    for index, module in enumerate(network.exits):
        module.register_forward_pre_hook(
            lambda _, inputs, index=index: seen.append((index, inputs[0].detach()))
        )
    with torch.no_grad():
        clean = network.embed(images)
        states = [network.run(clean, 0, after)[0][:, 0] for after in network.card.exits]
    loss = mixed_loss(
        network, Bottleneck(16), images, labels, cut=3, keep=0.1, dims=3, bits=1, margin=0.2, ce_weight=0.5
    )
    assert [index for index, _ in seen] == [0, 1, 2, 2]
    for index, cls in seen[:3]:
        torch.testing.assert_close(cls, states[index])
    assert not torch.allclose(seen[3][1], states[2], atol=0.1)
    loss.backward()
    assert all(p.grad is not None for p in network.blocks[3].parameters())
