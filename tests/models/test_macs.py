import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from splitpoint.models.card import ModelCard
from splitpoint.models.macs import (
    block_macs,
    embed_macs,
    exit_macs,
    head_macs,
    total_macs,
)

from .conftest import tiny_card, tiny_network


def _counted(run: object) -> int:
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()  # type: ignore[operator]
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stem": "conv", "patch": 8},
        {
            "stem": "conv",
            "patch": 4,
            "stem_blocks": (2, 1),
            "stem_widths": (12, 20),
            "channels": 1,
            "mean": (0.5,),
            "std": (0.5,),
        },
        {"exit_kind": "linear", "exit_state_dim": 0, "mlp_ratio": 4.0},
    ],
)
def test_closed_forms_are_what_the_flop_counter_counts(changes: dict[str, object]) -> None:
    network = tiny_network(**changes)
    card = network.card
    images = torch.randn(1, card.channels, *card.image_size)
    tokens = torch.randn(1, 7, card.dim)
    assert _counted(lambda: network.embed(images)) == embed_macs(card)
    assert _counted(lambda: network.run(tokens, 1, 2)) == block_macs(card, 7)
    assert _counted(lambda: network.exit(tokens, 1, None)) == exit_macs(card)
    assert _counted(lambda: network(images)) == total_macs(card)


def test_a_head_is_charged_for_the_exits_that_it_evaluates() -> None:
    card = tiny_card()
    assert head_macs(card, 0) == 0
    assert head_macs(card, 3) - head_macs(card, 3, exits_evaluated=False) == 2 * exit_macs(card)


def test_deit_tiny_at_224_pixels_has_the_known_figure() -> None:
    card = ModelCard(
        name="deit_tiny",
        image_size=(224, 224),
        channels=3,
        classes=tuple(str(i) for i in range(1000)),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        patch=16,
        dim=192,
        depth=12,
        heads=3,
        exits=(12,),
        exit_kind="linear",
    )
    assert total_macs(card) / 1e6 == pytest.approx(1253.7, abs=0.05)
