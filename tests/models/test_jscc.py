"""The joint code in torch: what numpy computes, unit power for every prefix, batch = single, training that resumes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from splitpoint.codec.symbols import SymbolCodec
from splitpoint.errors import DataError, UsageError
from splitpoint.models.activations import activations, cached_activations, tail_logits
from splitpoint.models.joint_file import joint_path
from splitpoint.models.jscc import JointCode, through_noise
from splitpoint.models.jscc_command import train_codes
from splitpoint.models.jscc_train import JsccConfig, drawn_symbols, train_code
from splitpoint.models.recursion import running_logits
from splitpoint.models.store import built_in_models, codec_arrays, load_network, resolve, save_codes

from .conftest import Colours, tiny_card, tiny_network

DIM, MOST = 16, 8


def code(seed: int = 0, symbols: int = MOST) -> JointCode:
    torch.manual_seed(seed)
    made = JointCode(DIM, symbols, 24)
    made.start_from(torch.randn(200, DIM) * torch.linspace(0.2, 3.0, DIM) + 1.0)
    for parameter in made.parameters():  # FiLM starts at the identity: let it act
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim == 2 else 0.1)
    return made.eval()


def counted(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


@torch.no_grad()
def test_every_prefix_has_unit_power_and_nothing_behind_it() -> None:
    x = 3 * torch.randn(MOST, 5, DIM)
    m = torch.arange(1.0, MOST + 1)
    sent = code().encode(x, torch.linspace(-30, 30, MOST), m)
    for row, count in enumerate(m.int().tolist()):
        power = sent[row].square().sum(dim=-1)
        torch.testing.assert_close(power[:, :count].mean(dim=1), torch.ones(5))
        assert not power[:, count:].any()


@torch.no_grad()
def test_a_prefix_is_the_beginning_of_the_longer_code() -> None:
    x = torch.randn(1, 5, DIM)
    long, short = (code().encode(x, counted(3.0), counted(m))[0] for m in (MOST, 3))
    prefix = long[:, :3] / long[:, :3].square().sum(dim=(-2, -1), keepdim=True).div(3).sqrt()
    torch.testing.assert_close(short[:, :3], prefix)


@torch.no_grad()
def test_batch_and_single_are_equal() -> None:
    made, x = code(), torch.randn(4, 5, DIM)
    snr, m = counted(-20.0, -3.0, 6.0, 30.0), counted(1, 3, 8, 5)
    noise = torch.randn(4, 5, MOST, 2)
    received = through_noise(made.encode(x, snr, m), noise, snr, m)
    together = made.decode(received, snr, m)
    for row in range(4):
        one = slice(row, row + 1)
        alone = made.encode(x[one], snr[one], m[one])
        torch.testing.assert_close(through_noise(alone, noise[one], snr[one], m[one])[0], received[row])
        torch.testing.assert_close(made.decode(received[one], snr[one], m[one])[0], together[row])


@torch.no_grad()
@pytest.mark.parametrize(("snr_db", "m"), [(-25.0, 1), (-8.0, 3), (0.0, 8), (17.0, 5)])
def test_numpy_computes_what_torch_computes(snr_db: float, m: int) -> None:
    made, x = code(), torch.randn(1, 5, DIM)
    codec = SymbolCodec({f"jscc.2.{name}": array for name, array in made.arrays().items()})
    layers = codec.layers(2)
    assert (layers.dim, layers.symbols) == (DIM, MOST)
    sent = made.encode(x, counted(snr_db), counted(m))
    found = layers.encode(x[0].numpy(), snr_db, m)
    np.testing.assert_allclose(found.view(np.float32).reshape(5, m, 2), sent[0, :, :m].numpy(), atol=2e-5)
    received = through_noise(sent, torch.randn_like(sent), counted(snr_db), counted(m))
    wanted = made.decode(received, counted(snr_db), counted(m))[0].numpy()
    symbols = np.ascontiguousarray(received[0, :, :m].numpy()).view(np.complex64)[..., 0]
    np.testing.assert_allclose(layers.decode(symbols, snr_db), wanted, rtol=1e-3, atol=2e-4)


def test_arrays_can_be_read_back() -> None:
    made, other = code(0), code(1)
    other.read(made.arrays())
    for name, value in made.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value)


@torch.no_grad()
def test_noise_has_the_power_that_the_snr_says_and_spares_what_is_not_sent() -> None:
    sent, m, snr = torch.zeros(2, 50, 64, 2), counted(64, 16), counted(-10.0, 10.0)
    noise = through_noise(sent, torch.randn(sent.shape), snr, m).square().sum(dim=-1)
    assert noise[0].mean() == pytest.approx(10.0, rel=0.1)
    assert noise[1, :, :16].mean() == pytest.approx(0.1, rel=0.15)
    assert not noise[1, :, 16:].any()


@pytest.mark.parametrize("cut", [1, 2, 3])
@torch.no_grad()
def test_head_and_tail_together_are_the_network(cut: int) -> None:
    network = tiny_network()
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 24, 3), dtype=np.uint8)
    known = activations(network, images, np.arange(6) % 4, cut)
    found = tail_logits(network, known.tokens.float(), cut, known)
    from splitpoint.models.preprocess import normalise

    qbar = None
    wanted = []
    for q in network(torch.from_numpy(normalise(images, network.card))):
        qbar = running_logits(qbar, q.numpy())
        wanted.append(qbar)
    behind = len(network.card.exits_within(cut, network.card.depth))
    assert len(found) == behind
    for logits, expected in zip(found, wanted[-behind:], strict=True):
        np.testing.assert_allclose(logits.numpy(), expected, atol=5e-3)  # the cache is float16


CONFIG = JsccConfig(steps=12, batch=8, hidden=8, samples=64, keeps=(0.5,))


def test_cached_activations_are_as_many_as_asked() -> None:
    known = cached_activations(tiny_network(), Colours(), 2, 120)
    assert known.tokens.shape == (120, 25, 16)
    assert known.u is not None
    assert len(known.labels) == len(known.u) == 120


def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitpoint.models.jscc_train._SAVE_EVERY", 5)
    network = tiny_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    losses: list[float] = []
    whole = train_code(network, Colours(), CONFIG, 1, tmp_path / "a", lambda _, loss: losses.append(loss))

    def killed(step: int, _: float) -> None:
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_code(network, Colours(), CONFIG, 1, tmp_path / "b", killed)
    steps: list[int] = []
    again = train_code(network, Colours(), CONFIG, 1, tmp_path / "b", lambda step, _: steps.append(step))
    assert steps == list(range(6, 13))
    assert len(losses) == 12
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    with pytest.raises(UsageError, match="another configuration"):
        train_code(
            network, Colours(), CONFIG.model_copy(update={"seed": 1}), 1, tmp_path / "b", lambda *_: None
        )


def test_a_cut_that_the_network_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"1\.\.3"):
        train_code(tiny_network(), Colours(), CONFIG, 4, tmp_path, lambda *_: None)
    with pytest.raises(UsageError, match="tiny has gates"):
        train_code(tiny_network(gates=True), Colours(), CONFIG, 1, tmp_path, lambda *_: None)


def test_a_wrong_cut_is_told_before_the_first_is_trained(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitpoint.models.jscc_command.training_views", pytest.fail)
    with pytest.raises(UsageError, match=r"1\.\.3, not 4"):
        train_codes(tiny_file, CONFIG.model_copy(update={"cuts": (1, 4)}), tmp_path)


def test_codes_of_other_cuts_stay(tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitpoint.models.jscc_command.training_views", lambda *_: Colours())
    model = tmp_path / "tiny.safetensors"
    model.write_bytes(tiny_file.read_bytes())
    crcs = []
    for cut in (1, 2):
        train_codes(model, CONFIG.model_copy(update={"cuts": (cut,), "steps": 1}), tmp_path)
        crcs.append(SymbolCodec(codec_arrays(model)).layers(1).crc)
    assert SymbolCodec(codec_arrays(model)).cuts == (1, 2)
    assert crcs[0] == crcs[1]


@pytest.mark.parametrize("most", [1, 5, 48, 96, 384])
def test_every_count_of_symbols_that_decodes_is_trained(most: int) -> None:
    """However wide the network: one symbol too, not only an octave or two above it."""
    drawn = drawn_symbols(np.random.default_rng(0), most, 100_000)
    assert set(drawn.tolist()) == set(range(1, most + 1))


def test_training_a_dedicated_pair_takes_all_its_symbols(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"dedicated": True, "symbols": 0.25})
    assert train_code(tiny_network(), Colours(), config, 1, tmp_path, lambda *_: None).symbols == 4


def test_codes_lie_beside_the_model_and_belong_to_its_weights(
    tiny_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "tiny.safetensors"
    model.write_bytes(tiny_file.read_bytes())
    arrays = {f"jscc.2.{name}": array for name, array in code().arrays().items()}
    beside = save_codes(model, arrays, {"steps": 3})
    assert beside == joint_path(model) == tmp_path / "tiny.jscc.safetensors"
    assert load_network(model)[1].id == load_network(tiny_file)[1].id
    found = codec_arrays(model)
    assert SymbolCodec(found).cuts == (2,)
    np.testing.assert_allclose(found["jscc.2.mean"], arrays["jscc.2.mean"], atol=1e-2)

    from splitpoint.models.store import save_network

    other = tmp_path / "other.safetensors"
    save_network(other, tiny_network(3), tiny_card(), {})
    joint_path(other).write_bytes(beside.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert SymbolCodec(codec_arrays(other)).cuts == ()
    assert "other weights" in caplog.text
    joint_path(other).write_bytes(b"{}")
    with pytest.raises(DataError, match=r"other\.jscc"):
        codec_arrays(other)


def test_code_files_are_no_models() -> None:
    assert not [name for name in built_in_models() if "jscc" in name]


def test_the_configuration_says_what_it_is() -> None:
    assert json.loads(CONFIG.identity("x").removeprefix("x "))["steps"] == 12
    assert CONFIG.identity("x") != CONFIG.identity("y")


def test_the_shipped_code_belongs_to_the_shipped_weights() -> None:
    codec = SymbolCodec(codec_arrays(resolve("clutter")))
    assert codec.cuts == (1,)
    assert (codec.layers(1).dim, codec.layers(1).symbols) == (96, 48)
