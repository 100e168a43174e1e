import pytest
import torch

from .conftest import tiny_network

STEMS = [
    {},
    {"stem": "conv", "patch": 8, "stem_blocks": (0, 1, 1)},
    {"exit_kind": "linear", "exit_state_dim": 0},
]


@pytest.mark.parametrize("changes", STEMS)
@torch.inference_mode()
def test_a_split_run_is_the_whole_run(changes: dict[str, object]) -> None:
    network = tiny_network(**changes)
    card = network.card
    x = network.embed(torch.randn(3, 3, 16, 24))
    assert x.shape == (3, card.patch_tokens + 1, card.dim)
    whole, scores = network.run(x, 0, card.depth)
    for cut in range(card.depth):
        middle, _ = network.run(x, 0, cut)
        rest, rest_scores = network.run(middle, cut, card.depth)
        torch.testing.assert_close(rest, whole, atol=1e-6, rtol=0)
        torch.testing.assert_close(rest_scores, scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize("changes", STEMS)
@torch.inference_mode()
def test_a_batch_answers_as_its_samples_alone(changes: dict[str, object]) -> None:
    network = tiny_network(**changes)
    images = torch.randn(5, 3, 16, 24)
    batch = network(images)
    assert len(batch) == len(network.card.exits)
    for row in range(5):
        for together, alone in zip(batch, network(images[row : row + 1]), strict=True):
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_scores_are_the_attention_from_cls() -> None:
    network = tiny_network()
    x = network.embed(torch.randn(2, 3, 16, 24))
    _, scores = network.run(x, 0, 2)
    before, _ = network.run(x, 0, 1)
    block = network.blocks[1]
    q, k, _ = block.attn.qkv(block.norm1(before)).reshape(2, 25, 3, 2, 8).permute(2, 0, 3, 1, 4)
    attention = torch.softmax(torch.einsum("bhd,bhtd->bht", q[:, :, 0], k) / 8**0.5, dim=-1)
    torch.testing.assert_close(scores, attention.mean(dim=1)[:, 1:], atol=1e-6, rtol=0)
    _, none = network.run(x, 1, 1)
    torch.testing.assert_close(none, torch.full((2, 24), 1 / 24))


@torch.inference_mode()
def test_fewer_tokens_run_and_order_does_not_matter() -> None:
    network = tiny_network()
    x, _ = network.run(network.embed(torch.randn(1, 3, 16, 24)), 0, 2)
    kept = x[:, [0, 3, 9, 17]]
    straight, _ = network.run(kept, 2, 4)
    shuffled, _ = network.run(kept[:, [0, 3, 1, 2]], 2, 4)
    torch.testing.assert_close(straight[:, 0], shuffled[:, 0], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_exit_state_goes_from_exit_to_exit() -> None:
    network = tiny_network()
    x, _ = network.run(network.embed(torch.randn(2, 3, 16, 24)), 0, 3)
    _, u = network.exit(x, 0, None)
    assert u.shape == (2, 8)
    fresh, _ = network.exit(x, 1, None)
    zeros, _ = network.exit(x, 1, torch.zeros(2, 8))
    after, _ = network.exit(x, 1, u)
    torch.testing.assert_close(fresh, zeros)
    assert not torch.allclose(fresh, after)


def test_blocks_outside_the_network_are_refused() -> None:
    network = tiny_network()
    with pytest.raises(ValueError, match="depth 4"):
        network.run(torch.zeros(1, 25, 16), 3, 5)
