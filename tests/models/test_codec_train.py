"""Training of bottlenecks behind a network that stays: it learns, resumes, and makes a model of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from splitpoint.codec.tokens import TokenCodec
from splitpoint.errors import UsageError
from splitpoint.models import codec_command
from splitpoint.models.activations import activations, tail_logits
from splitpoint.models.checkpoint import write_checkpoint
from splitpoint.models.codec_command import train_codec
from splitpoint.models.codec_train import CodecConfig, received, train_bottleneck
from splitpoint.models.compression import Bottleneck
from splitpoint.models.identity import network_id
from splitpoint.models.store import codec_arrays, load_network, read_tensors, save_network
from splitpoint.models.vit import SplitViT

from .conftest import Colours, tiny_network

CONFIG = CodecConfig(steps=12, batch=8, samples=64)


def started(path: Path, cut: int) -> Bottleneck:
    return Bottleneck.from_arrays(codec_arrays(path), cut, 16)


def test_a_killed_training_goes_on_to_the_same_bottleneck(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitpoint.models.codec_train._SAVE_EVERY", 5)
    network = load_network(tiny_file)[0]
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def train(folder: str, tick, config: CodecConfig = CONFIG) -> Bottleneck:
        return train_bottleneck(network, started(tiny_file, 2), Colours(), config, 2, tmp_path / folder, tick)

    def killed(step: int, _: float) -> None:
        if step == 8:
            raise KeyboardInterrupt

    losses: list[float] = []
    whole = train("a", lambda _, loss: losses.append(loss))
    with pytest.raises(KeyboardInterrupt):
        train("b", killed)
    steps: list[int] = []
    again = train("b", lambda step, _: steps.append(step))
    assert (steps, len(losses)) == (list(range(6, 13)), 12)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    with pytest.raises(UsageError, match="another configuration"):
        train("b", lambda *_: None, CONFIG.model_copy(update={"rest": False}))


def opinionated() -> SplitViT:
    """A tiny network whose answers differ: the logits of a random one hardly do."""
    network = tiny_network()
    for exit_ in network.exits:
        exit_.p.weight.data *= 20.0
    return network


@torch.no_grad()
def behind(network: SplitViT, bottleneck: Bottleneck) -> tuple[float, float]:
    """On images that were not trained on: KL at the last exit, and the entropy of the codes in bits."""
    known = activations(network, *Colours().draw(99, 300), 2)
    wanted = tail_logits(network, known.tokens.float(), 2, known)[-1].log_softmax(-1)
    x, keys, middle, width = received(bottleneck, known, 0.1, 5, 3, True)
    found = tail_logits(network, x, 2, known, keys=keys)[-1].log_softmax(-1)
    codes = torch.div(middle - middle.amin(dim=(1, 2), keepdim=True), width).round().long()
    share = torch.bincount(codes.flatten()) / codes.numel()
    return (
        float((wanted.exp() * (wanted - found)).sum(-1).mean()),
        float(torch.special.entr(share).sum() / np.log(2)),
    )


def test_what_is_trained_is_nearer_to_the_network_and_a_price_makes_it_cheaper(tmp_path: Path) -> None:
    network = opinionated()
    found = {}
    for weight in (0.0, 10.0):
        config = CodecConfig(steps=120, batch=32, samples=200, learning_rate=1e-2, rate_weight=weight)
        trained = train_bottleneck(
            network, Bottleneck(16), Colours(), config, 2, tmp_path / str(weight), lambda *_: None
        )
        found[weight] = behind(network, trained)
    assert found[0.0][0] < 0.5 * behind(network, Bottleneck(16))[0]
    assert found[10.0][1] < found[0.0][1] - 0.1


def test_what_cannot_be_is_said_before_anything_is_trained(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def training(*_: object) -> None:
        raise AssertionError("has begun")

    def refused(match: str, model: Path, out: str = "out.safetensors", cuts: tuple[int, ...] = (1,)) -> None:
        with pytest.raises(UsageError, match=match):
            train_codec(model, CONFIG.model_copy(update={"cuts": cuts}), tmp_path / out)

    monkeypatch.setattr(codec_command, "training_views", lambda *_: Colours())
    monkeypatch.setattr(codec_command, "train_bottleneck", training)
    gated = tmp_path / "gated.safetensors"
    save_network(gated, tiny_network(gates=True), tiny_network(gates=True).card, {})
    refused("tiny has gates", gated)
    shallow = tiny_network(depth=1, exits=(1,))
    save_network(tmp_path / "shallow.safetensors", shallow, shallow.card, {})
    refused("1 block only: there is nowhere to cut", tmp_path / "shallow.safetensors", cuts=())
    refused(r"in 1\.\.3, not 4", tiny_file, cuts=(1, 4))
    refused(r"NAME\.safetensors", tiny_file, "out")
    refused("another file", tiny_file, str(tiny_file))
    write_checkpoint(tmp_path / "out.codec" / "cut-2.pt", "other", {})
    refused("another configuration", tiny_file, cuts=(1, 2))


def test_what_a_killed_run_with_other_cuts_left_stays(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_command, "training_views", lambda *_: Colours())
    write_checkpoint(tmp_path / "out.codec" / "cut-3.pt", "other", {})
    out = train_codec(tiny_file, CONFIG.model_copy(update={"cuts": (2,)}), tmp_path / "out.safetensors")
    assert out.is_file()
    assert [path.name for path in (tmp_path / "out.codec").iterdir()] == ["cut-3.pt"]


def test_a_network_of_somebody_s_gets_its_first_codec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_command, "training_views", lambda *_: Colours())
    network = tiny_network(exits=(4,), exit_kind="linear", exit_state_dim=0)
    save_network(tmp_path / "plain.safetensors", network, network.card, {})
    out = train_codec(tmp_path / "plain.safetensors", CONFIG, tmp_path / "out.safetensors")
    codec = TokenCodec(codec_arrays(out))
    assert [codec.sends_rest(cut) for cut in (1, 2, 3)] == [True] * 3


def test_the_command_writes_a_model_with_the_same_network(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_command, "training_views", lambda *_: Colours())
    old, out = codec_arrays(tiny_file), tmp_path / "other.safetensors"
    assert train_codec(tiny_file, CONFIG.model_copy(update={"cuts": (1,)}), out) == out
    card = load_network(out)[1]
    assert (card.name, card.id != load_network(tiny_file)[1].id) == ("other", True)
    assert network_id(read_tensors(out)) == network_id(read_tensors(tiny_file))
    new = codec_arrays(out)
    codec = TokenCodec(new)
    assert [codec.sends_rest(cut) for cut in (1, 2, 3)] == [True, True, False]
    assert not np.array_equal(new["codec.1.down"], old["codec.1.down"])
    np.testing.assert_array_equal(new["codec.3.down"], old["codec.3.down"])
    assert all(codec.tables(cut) is not None for cut in (1, 2, 3))
    assert card.training["codec"]["config"]["cuts"] == [1]  # type: ignore[index]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.safetensors"]
