import copy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from splitpoint.models.compression import Bottleneck
from splitpoint.models.gate_losses import budget_loss, gated_loss
from splitpoint.models.gated import Gated, begin_gated, run_gated, with_gates
from splitpoint.models.macs import block_macs, embed_macs, exit_macs, gate_macs, head_macs
from splitpoint.models.pruning import KEPT, Pruned, run_pruned
from splitpoint.models.vit import SplitViT

from .conftest import tiny_network


@cache
def _plain() -> SplitViT:
    return tiny_network()


@cache
def _selective(seed: int) -> SplitViT:
    """Gates that drop some of the tokens. Shared by the tests: copy it to change it."""
    network = with_gates(tiny_network(seed), seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        gates = network.gates
        gates.w.normal_(0.0, 0.15)
        gates.b.fill_(0.5)
        gates.v.normal_(0.0, 0.15)
        gates.low.normal_(0.0, 0.5)
        gates.up.normal_(0.0, 0.5)
        gates.c.fill_(-0.5)
    return network


@torch.inference_mode()
def _alone(network: SplitViT, image: torch.Tensor, alpha: float, stop: int) -> Pruned:
    def block(index: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, scores = network.run(torch.from_numpy(tokens)[None], index, index + 1)
        return x[0].numpy(), scores[0].numpy()

    def gate(index: int, tokens: np.ndarray) -> np.ndarray:
        return network.gates(torch.from_numpy(tokens)[None], index)[0].numpy()

    tokens = network.embed(image[None])[0].numpy()
    budget = network.gates.budget(torch.tensor([alpha]))[0, 0].numpy()
    pruned, _ = run_pruned(Pruned.begin(tokens, budget), 0, stop, network.card.depth, block, gate)
    return pruned


@cache
def _gate_closed(index: int) -> SplitViT:
    """One gate that no patch passes."""
    network = copy.deepcopy(_selective(index))
    with torch.no_grad():
        network.gates.b[index] = -30.0
    return network


@settings(max_examples=10)
@given(st.integers(0, 50), st.floats(0.01, 0.99))
@torch.no_grad()
def test_nothing_is_dropped_when_gates_are_fresh(seed: int, alpha: float) -> None:
    network = with_gates(_plain(), seed)
    torch.manual_seed(seed)
    images = 5.0 * torch.randn(3, 3, 16, 24)
    at = run_gated(network, begin_gated(network, images, torch.full((3,), alpha)), 0, 4)
    assert all((fraction == 1).all() for fraction in at.fractions)
    expected = torch.sigmoid(torch.tensor(5.0)) - torch.sigmoid(torch.tensor(-5.0))
    torch.testing.assert_close(at.m, expected.expand(3, 24))
    assert len(_alone(network, images[0], alpha, 4).positions) == 24


@settings(max_examples=20)
@given(st.integers(0, 200), st.floats(0.01, 0.99), st.integers(0, 4))
def test_cls_and_budget_are_never_dropped(seed: int, alpha: float, stop: int) -> None:
    network = _gate_closed(seed % 3)
    torch.manual_seed(seed)
    image = torch.randn(3, 16, 24)
    pruned = _alone(network, image, alpha, stop)
    assert pruned.tokens.shape == (len(pruned.positions) + 2, 16)
    assert np.isfinite(pruned.tokens).all()
    if stop > seed % 3:
        assert len(pruned.positions) == 0
    with torch.no_grad():
        both = run_gated(network, begin_gated(network, image[None], torch.tensor([alpha])), 0, stop)
    np.testing.assert_allclose(pruned.tokens[[0, -1]], both.x[0, [0, -1]].numpy(), atol=1e-4)


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_batch_with_masks_is_each_sample_with_tokens_removed(seed: int, stop: int) -> None:
    network = _selective(seed)
    torch.manual_seed(seed)
    images = torch.randn(4, 3, 16, 24)
    alphas = torch.tensor([0.05, 0.3, 0.6, 0.95])
    with torch.no_grad():
        at = run_gated(network, begin_gated(network, images, alphas), 0, stop)
    for row in range(4):
        alone = _alone(network, images[row], float(alphas[row]), stop)
        kept = torch.nonzero(at.keys[row] > 0.5).squeeze(1)
        # Rounding may put a token that lies on the edge on either side; these seeds have none there.
        np.testing.assert_array_equal(alone.positions, kept.numpy())
        rows = torch.cat([torch.tensor([0]), kept + 1, torch.tensor([25])])
        np.testing.assert_allclose(alone.tokens, at.x[row, rows].numpy(), atol=1e-4)
        np.testing.assert_allclose(alone.weights, at.m[row, kept].numpy(), atol=1e-5)


def test_what_one_gate_drops_is_gone_for_the_later_ones() -> None:
    network = _selective(0)
    torch.manual_seed(0)
    images, alpha = torch.randn(8, 3, 16, 24), torch.linspace(0.1, 0.9, 8)
    at, before = begin_gated(network, images, alpha), torch.ones(8, 24)
    for index in range(4):
        at = run_gated(network, at, index, index + 1)
        assert (at.keys <= before).all()
        before = at.keys.detach()
    assert len(at.fractions) == 3
    assert 0.0 < at.fractions[-1].mean() < at.fractions[0].mean() < 1.0


def test_a_dropped_token_changes_nothing_and_still_learns_what_it_was_worth() -> None:
    network = _selective(2)
    torch.manual_seed(1)
    x = torch.randn(2, 26, 16, requires_grad=True)
    keys = torch.ones(2, 26)
    keys[:, 5:15] = 0.0
    keys.requires_grad_(True)
    out, _ = network.run(x, 1, 3, keys=keys)
    short, _ = network.run(torch.cat([x[:, :5], x[:, 15:]], dim=1), 1, 3)
    torch.testing.assert_close(torch.cat([out[:, :5], out[:, 15:]], dim=1), short, atol=1e-5, rtol=0)
    out[:, 0].pow(2).sum().backward()
    assert keys.grad is not None
    assert (keys.grad[:, 5:15].abs() > 0).all()


def test_the_budget_token_lies_between_its_two_ends() -> None:
    gates = _selective(0).gates
    tokens = gates.budget(torch.tensor([0.0, 0.25, 1.0]))[:, 0]
    torch.testing.assert_close(tokens[0], gates.up[0, 0])
    torch.testing.assert_close(tokens[2], gates.low[0, 0])
    torch.testing.assert_close(tokens[1], 0.25 * gates.low[0, 0] + 0.75 * gates.up[0, 0])


def test_the_budget_loss_is_its_formula() -> None:
    alpha = torch.tensor([0.5, 0.2])
    first, last = torch.tensor([0.51, 0.3]), torch.tensor([0.4, 0.2])
    outer, inner = (0.08 + 0.0) / 2, ((0.0 + 0.08) / 2 + (0.08 + 0.0) / 2) / 2
    assert budget_loss([first, last], alpha, 3.0, 0.0).item() == pytest.approx(3 * outer, abs=1e-6)
    assert budget_loss([first, last], alpha, 0.0, 2.0).item() == pytest.approx(2 * inner, abs=1e-6)


def test_keeping_every_token_at_m_alpha_is_no_way_out() -> None:
    network = with_gates(tiny_network(), 0)
    with torch.no_grad():  # m = .3 for every token: the loss of the papers is met
        network.gates.b.fill_(0.0)
        network.gates.c.fill_(float(np.log(0.2 / 0.8)))
    alpha = torch.full((2,), 0.3)
    at = run_gated(network, begin_gated(network, torch.randn(2, 3, 16, 24), alpha), 0, 4)
    torch.testing.assert_close(at.m.mean(dim=1), alpha)
    assert budget_loss(at.fractions, alpha, 1.0, 0.0).item() == pytest.approx(0.68, abs=1e-5)


def test_every_gate_and_the_whole_network_learn_from_the_loss() -> None:
    network, bottleneck = _selective(3), Bottleneck(16)
    torch.manual_seed(0)
    loss = gated_loss(
        network, bottleneck, torch.randn(6, 3, 16, 24), torch.arange(6) % 4,
        alpha=torch.linspace(0.1, 0.9, 6), cut=2, dims=8, bits=4, margin=0.2, ce_weight=0.5, outer=1.0, inner=1.0,
    )  # fmt: skip
    loss.backward()
    for name, value in [*network.named_parameters(), *bottleneck.named_parameters()]:
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name
    assert (network.gates.w.grad.abs().sum(dim=1) > 0).all()


def test_the_tail_of_training_sees_what_is_sent() -> None:
    network, bottleneck = _selective(4), Bottleneck(16)
    torch.manual_seed(2)
    images, alpha = torch.randn(3, 3, 16, 24), torch.tensor([0.2, 0.5, 0.8])
    seen: list[torch.Tensor] = []
    network.exits[2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        gated_loss(
            network, bottleneck, images, torch.tensor([0, 1, 2]),
            alpha=alpha, cut=3, dims=16, bits=8, margin=0.2, ce_weight=0.5, outer=1.0, inner=1.0,
        )  # fmt: skip
        for row in range(3):
            sent = torch.from_numpy(_alone(network, images[row], float(alpha[row]), 3).to_send())
            # 8 bits of a token's range, and no budget token
            x, _ = network.run(sent[None], 3, 4)
            torch.testing.assert_close(seen[1][row], x[0, 0], atol=0.05, rtol=0)


def test_gates_are_added_to_a_network_once_and_change_nothing_else() -> None:
    network = tiny_network()
    gated = with_gates(network, 3)
    assert (gated.card.gates, network.card.gates) == (True, False)
    assert with_gates(gated, 4) is gated
    assert not gated.training
    images = torch.randn(2, 3, 16, 24)
    with torch.inference_mode():
        for one, two in zip(network(images), gated(images), strict=True):
            torch.testing.assert_close(one, two, atol=0, rtol=0)


def test_the_edge_of_dropping() -> None:
    at = Pruned.begin(np.ones((4, 2), np.float32), np.full(2, 7.0, np.float32))
    behind = at.gated(np.array([KEPT, 0.5, 2 * KEPT], np.float32))
    np.testing.assert_array_equal(behind.positions, [1, 2])
    np.testing.assert_allclose(behind.tokens[:, 0], [1.0, 0.5, 0.002, 7.0])


def test_states_are_not_changed_in_place() -> None:
    network = _selective(0)
    images = torch.randn(1, 3, 16, 24)
    first = begin_gated(network, images, torch.tensor([0.5]))
    copy = Gated(first.x.clone(), first.m.clone(), first.keys.clone())
    run_gated(network, first, 0, 3)
    torch.testing.assert_close(first.x, copy.x)
    begun = Pruned.begin(np.ones((4, 2), np.float32), np.ones(2, np.float32))
    begun.gated(np.full(3, 0.5, np.float32))
    np.testing.assert_array_equal(begun.tokens, np.ones((5, 2)))


def test_the_work_of_a_gated_head_is_that_of_the_tokens_which_are_left() -> None:
    network = _selective(0)
    card, n = network.card, network.card.patch_tokens
    x = torch.randn(1, 9, card.dim)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.gates(x, 2)
    assert counter.get_total_flops() // 2 == gate_macs(card, 7)
    embed, exits = embed_macs(card), exit_macs(card)
    assert head_macs(card, 1, keep=0.25) == embed + block_macs(card, n + 2) + gate_macs(card, n) + exits
    left = n // 4
    third = block_macs(card, left + 2) + gate_macs(card, left)
    assert head_macs(card, 3, keep=0.25) - head_macs(card, 2, keep=0.25) == third + exits
    assert head_macs(card, 4, keep=0.25) - head_macs(card, 3, keep=0.25) == block_macs(card, left + 2) + exits
    assert head_macs(card, 4, keep=1.0) == head_macs(_plain().card, 4, keep=0.25)
