"""Networks with gates on the device: torch and ONNX Runtime alike, and what is sent of what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splitpoint.codec.tokens import TokenCodec
from splitpoint.device.agent import Agent
from splitpoint.device.effects import RunBlocks
from splitpoint.device.encoder import Encoder
from splitpoint.device.export import export
from splitpoint.device.head import advanced
from splitpoint.device.load import load_head
from splitpoint.models.macs import head_macs
from splitpoint.models.pruning import KEPT
from splitpoint.policies.decision import Decision
from splitpoint.policies.service_time import block_times, times_at_keep

from .conftest import Small, make_small, random_card

KEEPS = (0.9, 0.5, 0.1)


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return make_small(tmp_path_factory.mktemp("gated"), 3, gates=True)


def test_both_heads_leave_the_same_patches_and_answer_alike(gated: Small) -> None:
    one, two = load_head(gated.file), load_head(gated.folder)
    left = set()
    for seed in range(8):
        for keep in KEEPS:
            a = b = None
            for cut in range(1, gated.card.depth + 1):
                image = gated.image(seed)
                a, b = advanced(one, image, a, cut, keep), advanced(two, image, b, cut, keep)
                np.testing.assert_array_equal(a.positions, b.positions)
                np.testing.assert_allclose(a.tokens, b.tokens, atol=1e-4)
                np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
                assert a.tokens.shape == (len(a.positions) + 2, gated.card.dim)
                assert len(a.scores) == len(a.positions)
                assert (a.weights > KEPT).all()
                left.add(len(a.positions))
            assert a is not None
            assert b is not None
            assert b.margin == pytest.approx(a.margin, abs=1e-4)
    assert len(left) > 3


def test_any_steps_lead_to_the_same_state_and_change_no_other(gated: Small) -> None:
    for head in (load_head(gated.file), load_head(gated.folder)):
        whole, steps = advanced(head, gated.image(1), None, 4, 0.4), None
        for cut in range(1, 5):
            before = None if steps is None else steps.tokens.copy()
            after = advanced(head, gated.image(1), steps, cut, 0.4)
            if before is not None and steps is not None:
                np.testing.assert_array_equal(steps.tokens, before)
            steps = after
        assert steps is not None
        np.testing.assert_array_equal(steps.tokens, whole.tokens)
        np.testing.assert_array_equal(steps.positions, whole.positions)
        np.testing.assert_array_equal(steps.logits, whole.logits)
        assert (steps.passed, steps.keep) == (3, 0.4)


def test_keep_1_is_the_plain_network(gated: Small) -> None:
    head = load_head(gated.folder)
    state = advanced(head, gated.image(0), None, 3)
    assert state.positions is None
    assert state.tokens.shape == (gated.card.patch_tokens + 1, gated.card.dim)
    np.testing.assert_array_equal(state.to_send, state.tokens)


def test_networks_without_gates_do_not_look_at_keep(small: Small) -> None:
    for head in (load_head(small.file), load_head(small.folder)):
        one, two = (advanced(head, small.image(0), None, 3, keep) for keep in (1.0, 0.2))
        np.testing.assert_array_equal(one.tokens, two.tokens)
        assert two.positions is None


def test_what_is_left_is_sent_and_the_budget_token_is_not(gated: Small) -> None:
    card = gated.card
    codec = TokenCodec({}, dim=card.dim, max_tokens=card.patch_tokens + 1)
    encoder = Encoder(card, codec)
    for keep, seed in ((0.9, 1), (0.5, 2), (0.1, 0)):
        decision = Decision(2, keep=keep)
        state = advanced(load_head(gated.file), gated.image(seed), None, 2, keep)
        request, kept = encoder.request(gated.image(seed), state, decision, request_id=1, deadline_s=1.0)
        assert card.patch_tokens / 2 < len(kept) < card.patch_tokens, "or the test tells nothing"
        np.testing.assert_array_equal(kept, state.positions)
        assert request.tokens.count == len(kept) + 1
        decoded = codec.decode(request.tokens, 2)
        assert np.abs(decoded - state.to_send).max() < 0.05
        np.testing.assert_allclose(state.to_send[1:] * state.weights[:, None], state.tokens[1:-1], rtol=1e-5)


def test_a_gate_that_no_patch_passes_leaves_cls_to_be_sent(tmp_path: Path) -> None:
    import torch

    from splitpoint.models.store import save_network
    from splitpoint.models.vit import SplitViT

    torch.manual_seed(0)
    card = random_card(gates=True)
    network = SplitViT(card)
    torch.nn.init.constant_(network.gates.b, -30.0)
    card = save_network(tmp_path / "closed.safetensors", network, card, {})
    export(tmp_path / "closed.safetensors", tmp_path / "out", progress=False)
    image = np.zeros((16, 16, 1), np.uint8)
    codec = TokenCodec({}, dim=card.dim, max_tokens=card.patch_tokens + 1)
    for model in (tmp_path / "closed.safetensors", tmp_path / "out"):
        state = advanced(load_head(model), image, None, 3, 0.5)
        assert state.positions is not None
        assert len(state.positions) == 0
        request, kept = Encoder(card, codec).request(
            image, state, Decision(3, keep=0.5), request_id=1, deadline_s=1.0
        )
        assert len(kept) == 0
        assert codec.decode(request.tokens, 3).shape == (1, card.dim)


def test_fewer_patches_take_less_time_on_the_device(gated: Small, small: Small) -> None:
    times = block_times(gated.card, 1e6)
    quarter = times_at_keep(gated.card, times, 0.25)
    assert quarter[0] == 0.0
    for cut in range(1, 5):
        assert quarter[cut] == pytest.approx(head_macs(gated.card, cut, keep=0.25) / 1e6)
    assert quarter[4] < 0.6 * times[4]
    assert times_at_keep(gated.card, times, 1.0) == times
    assert times_at_keep(small.card, times, 0.25) == times


def test_the_agent_runs_and_times_its_blocks_at_the_decisions_keep() -> None:
    agent = Agent((2, 4), (0.0, 1.0, 2.0, 3.0, 4.0), 0.0, lambda keep: [keep * t for t in (0, 1, 2, 3, 4)])
    assert agent.times(0.5) == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert agent.times(1.0) == (0.0, 1.0, 2.0, 3.0, 4.0)
    # At keep 1 the third and fourth block would not be done in time; at a quarter they are.
    effects = agent.answer(Decision(4, keep=0.25), 0.0, 1.5, True)
    assert effects.send(None) == RunBlocks(0, 2, 0.25)
