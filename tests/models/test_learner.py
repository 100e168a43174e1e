"""Learners: shapes, MACs, files, and the same answers gate by gate as in one go."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from splitpoint.errors import DataError, UsageError
from splitpoint.models.conv import SplitConv
from splitpoint.models.conv_card import ConvCard, ConvStage
from splitpoint.models.learner import Learner, load_learner
from splitpoint.models.learner_file import learner_names, save_learner
from splitpoint.models.pool_config import pool_configs
from splitpoint.models.preprocess import normalise
from splitpoint.models.recursion import opinion, running_logits
from splitpoint.models.shared_head import SharedHead, tail_configs
from splitpoint.models.store import built_in_models, resolve
from splitpoint.models.vit import SplitViT

from .conftest import tiny_network


def conv_card(**changes: object) -> ConvCard:
    values: dict[str, object] = {
        "name": "little",
        "image_size": (16, 24),
        "channels": 3,
        "classes": ("a", "b", "c", "d"),
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.2, 0.3),
        "stem_width": 4,
        "stages": (ConvStage(width=5), ConvStage(width=6, kind="plain"), ConvStage(width=8, kind="inverted")),
        "exits": (1, 2, 3),
        "exit_state_dim": 7,
    }
    return ConvCard.model_validate(values | changes)


def conv_learner(seed: int = 0, **changes: object) -> Learner:
    torch.manual_seed(seed)
    card = conv_card(**changes)
    network = SplitConv(card)
    for module in network.modules():  # norms as after a training, not as at its start
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.rand(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return Learner(network, card)


def vit_learner() -> Learner:
    network = tiny_network()
    return Learner(network, network.card.model_copy(update={"id": "0123456789abcdef"}))


def _images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 16, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("learner", [conv_learner(), conv_learner(pool="both"), vit_learner()])
def test_gate_by_gate_is_the_forward_pass(learner: Learner) -> None:
    images = _images()
    said = learner.opinions(images)
    assert (said.dtype, said.shape) == (np.float16, (5, 3, 4))
    qbar = None
    with torch.inference_mode():
        logits = learner.network(torch.from_numpy(normalise(images, learner.card)))
    for gate, q in enumerate(logits):
        qbar = running_logits(qbar, q.numpy())
        np.testing.assert_allclose(said[:, gate], opinion(qbar), atol=1e-3)
    assert np.ptp(said.astype(float), axis=0).max() > 0.01  # images differ, so do opinions


def test_a_state_can_be_advanced_twice_but_no_gate_be_skipped() -> None:
    learner = conv_learner()
    begun = learner.begin(torch.from_numpy(normalise(_images(), learner.card)))
    first, behind = learner.advance(begun, 0)
    again, _ = learner.advance(begun, 0)
    assert torch.equal(first, again)
    with pytest.raises(UsageError, match="the next gate is 1, not 2"):
        learner.advance(behind, 2)
    _, behind = learner.advance(behind, 1)
    _, behind = learner.advance(behind, 2)
    with pytest.raises(UsageError):
        learner.advance(behind, 3)


def _counted(run: object) -> int:
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()  # type: ignore[operator]
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize(
    "card",
    [
        *(config.card for config in pool_configs("cifar10")),
        conv_card(
            stages=(
                ConvStage(width=5, down="max"),
                ConvStage(width=6, down="mean", kernel=5, blocks=2),
                ConvStage(width=7, down="none", kind="inverted", kernel=5),
                ConvStage(width=8, kind="plain", blocks=0, down="none"),
            ),
            exits=(2, 3, 4),
            pool="both",
            stem_stride=2,
            stem_kernel=5,
        ),
    ],
    ids=lambda card: card.name,
)
def test_macs_of_each_gate_are_what_the_flop_counter_counts(card: ConvCard) -> None:
    network = SplitConv(card) if isinstance(card, ConvCard) else SplitViT(card)
    learner = Learner(network, card)
    state = learner.begin(torch.zeros(1, card.channels, *card.image_size))
    stem = _counted(lambda: learner.begin(torch.zeros(1, card.channels, *card.image_size)))
    for gate, macs in enumerate(learner.gate_macs):
        counted = _counted(lambda gate=gate, state=state: learner.advance(state, gate))
        assert counted + (stem if gate == 0 else 0) == macs
        _, state = learner.advance(state, gate)


def test_the_pool_is_small_and_its_learners_differ() -> None:
    configs = pool_configs("cifar10", seed=3)
    assert len(configs) == 8
    assert len({config.seed for config in configs}) == 8
    assert [c.seed for c in configs] == [c.seed for c in pool_configs("cifar10", seed=3)]
    assert {len(config.card.exits) for config in configs} == {3}
    for config in configs:
        network = SplitConv(config.card) if isinstance(config.card, ConvCard) else SplitViT(config.card)
        learner = Learner(network, config.card)
        assert 5e6 < sum(learner.gate_macs) < 20e6
        assert sum(p.numel() for p in network.parameters()) < 500_000
    with pytest.raises(UsageError, match="cifar10"):
        pool_configs("cifar")


def test_a_learner_is_the_same_from_its_file(tmp_path: Path) -> None:
    learner = conv_learner()
    path = tmp_path / "little.safetensors"
    card = save_learner(path, learner.network, learner.card)
    read = load_learner(path)
    assert (read.id, read.name, read.card) == (card.id, "little", card)
    assert len(card.id) == 16
    np.testing.assert_allclose(read.opinions(_images()), learner.opinions(_images()), atol=5e-3)
    assert not [part for part in read.network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(DataError, match="do not match"):
        load_learner(path)
    with pytest.raises(UsageError, match="unknown learner 'cifar1'; did you mean"):
        load_learner("cifar1")


def test_every_model_is_a_learner_and_no_learner_is_listed_as_a_model() -> None:
    assert set(built_in_models()) <= set(learner_names())
    clutter = load_learner("clutter")
    assert clutter.gates == len(clutter.card.exits)
    assert not [name for name in built_in_models() if "residual" in name]
    assert resolve("clutter").name == "clutter.safetensors"


def test_cards_that_cannot_be_built_are_refused() -> None:
    for changes, message in [
        ({"image_size": (20, 24)}, "multiple of the total stride 8"),
        ({"exits": (1, 2)}, "must be the 3 stages"),
        ({"exits": (2, 1, 3)}, "must rise"),
        ({"head_id": "abc"}, "go together"),
        ({"mean": (0.5,)}, "one value a channel"),
    ]:
        with pytest.raises(ValidationError, match=message):
            conv_card(**changes)


def test_tails_start_from_the_tokens_of_their_head_only() -> None:
    head_network = tiny_network()
    head_network.card = head_network.card.model_copy(update={"id": "0123456789abcdef"})
    head = SharedHead(head_network, 2)
    config = tail_configs(head, seed=1)[0]
    assert config.card.image_size == (4, 6)
    learner = Learner(SplitConv(config.card), config.card)
    assert (learner.head_id, learner.cut) == ("0123456789abcdef", 2)
    images = torch.from_numpy(normalise(_images(), head.card))
    with torch.inference_mode():
        tokens, _ = head_network.run(head_network.embed(images), 0, 2)
        expected = learner.network(head(images))[0]
    qbar, _ = learner.advance(learner.begin_tokens(tokens), 0)
    torch.testing.assert_close(qbar, expected)
    with pytest.raises(UsageError, match="all 25 tokens"):
        learner.begin_tokens(tokens[:, :9])
    with pytest.raises(UsageError, match="starts from the tokens of model 0123456789abcdef"):
        learner.begin(images)
    with pytest.raises(UsageError, match="not from tokens"):
        conv_learner().begin_tokens(tokens)
