"""Symbols in virtual time: channel uses, not bytes; the link's noise; what cannot be sent is said in one line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splitpoint.channel.config import ChannelConfig, build_link
from splitpoint.channel.corruption import corrupted
from splitpoint.channel.emulator import Emulator
from splitpoint.channel.ways import Way
from splitpoint.codec.symbols import SymbolCodec, symbol_count
from splitpoint.errors import ConfigError, UsageError
from splitpoint.models.jscc import JointCode
from splitpoint.models.store import codec_arrays, resolve, save_codes
from splitpoint.policies.decision import Decision
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.scenario import Scenario, load_scenario
from splitpoint.sim.setup import Setup
from splitpoint.sim.tensor import TensorBackend

CUT = 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of clutter with a code of its own whose layers were never trained."""
    path = tmp_path_factory.mktemp("model") / "clutter.safetensors"
    path.write_bytes(resolve("clutter").read_bytes())
    torch.manual_seed(0)
    code = JointCode(96, 48, 64)
    code.start_from(torch.randn(300, 96))
    save_codes(path, {f"jscc.{CUT}.{k}": v for k, v in code.arrays().items()}, {})
    return path


def jscc(model: Path, **changes: Any) -> Scenario:
    return load_scenario("jscc", {"model": str(model), "requests": 12} | changes)


def _static(name: str, **decision: Any) -> StaticPolicy:
    return StaticPolicy(name=name, decision=DecisionConfig(**decision))


def test_the_shipped_scenario_runs_on_the_tensor_engine(model: Path) -> None:
    scenario = jscc(model)
    engine = VirtualEngine(Setup(scenario), "tensor")
    for name in ("symbols-0.5", "symbols-0.05"):
        policy = scenario.policy(name)
        assert isinstance(policy, StaticPolicy)
        columns = engine.run(policy)
        assert len(columns["device"]) == 12
        sent = columns["offloaded"]
        uses = 17 * symbol_count(96, policy.decision.symbols)
        assert sent.sum() > 6
        assert set(columns["channel_uses"][sent]) == {uses}
        assert not columns["channel_uses"][~sent].any()
        assert columns["uplink_bytes"][sent].max() < 120  # the digital part only
        served = ~columns["local"]
        assert (columns["airtime_up_s"][served] > uses / 3.0e5).all()


def test_equal_seeds_give_equal_noise(model: Path) -> None:
    policy = _static("s", split=1, keep=0.125, symbols=0.05)
    first, again = (VirtualEngine(Setup(jscc(model)), "tensor").run(policy) for _ in range(2))
    assert all(np.array_equal(first[name], again[name], equal_nan=True) for name in first)


def test_the_profile_engine_says_that_it_has_no_symbols(model: Path) -> None:
    scenario = jscc(resolve("clutter"), policies=[{"kind": "static", "name": "l", "decision": {"split": 6}}])
    engine = VirtualEngine(Setup(scenario), "profile")
    with pytest.raises(UsageError, match=r"Decision\.symbols 0\.5: no profile knows"):
        engine.run(_static("s", split=1, keep=0.25, symbols=0.5))


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ({"split": 3, "symbols": 0.5}, "policy 's': symbols: .* no joint code at cut 3; train one with"),
        ({"split": 1, "symbols": 0.6}, r"policy 's': symbols: the code at cut 1 has at most 0\.5"),
        ({"split": 6, "symbols": 0.5, "offload_slope": 0.1}, "no joint code at cut 4"),
    ],
)
def test_what_the_model_cannot_send_is_refused_before_the_run(
    model: Path, decision: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Setup(jscc(model, policies=[{"kind": "static", "name": "s", "decision": decision}]))


def test_a_mahimahi_uplink_carries_no_symbols(model: Path) -> None:
    channel = jscc(model).channel.model_dump(mode="json")
    channel["uplink"] = {"kind": "mahimahi", "path": "nowhere.up"}
    with pytest.raises(ConfigError, match="carries bytes only"):
        Setup(jscc(model, channel=channel))


def test_emulator_and_virtual_time_add_noise_of_the_same_power(model: Path) -> None:
    """The same requests by the emulator's own path and by the tensor engine's, on a link of 4 dB."""
    link = {"kind": "awgn", "mean_snr_db": 4.0, "bandwidth_hz": 1.0e6, "round_trip_s": 0.0}
    config = ChannelConfig.model_validate({"links": [link]})
    codec = SymbolCodec(codec_arrays(model))
    draws = np.random.default_rng(0)
    requests = []
    for number in range(1, 9):
        tokens = draws.normal(size=(65, 96)).astype(np.float32)
        payload, _ = codec.encode(tokens, None, CUT, 1.0, 0.25, 4.0)
        requests.append(pb.InferRequest(request_id=number, split=CUT, symbols=payload))

    async def emulated() -> list[pb.InferRequest]:
        emulator = Emulator(config, "127.0.0.1:1", seed=3)
        way = Way(emulator.radio, 0)
        found = [await way.up(request.SerializeToString()) for request in requests]
        await emulator.close()
        return [pb.InferRequest.FromString(data) for data in found if data is not None]

    by_emulator = asyncio.run(emulated())
    virtual = [corrupted(request, build_link(config.links[0], 5, 0), 0.1) for request in requests]

    def noise(received: list[pb.InferRequest]) -> np.ndarray:
        pairs = [np.frombuffer(r.symbols.values, "<f2").astype(float) for r in received]
        sent = [np.frombuffer(r.symbols.values, "<f2").astype(float) for r in requests]
        return np.concatenate(pairs) - np.concatenate(sent)

    wanted = 10**-0.4
    for received in (by_emulator, virtual):
        errors = noise(received)
        assert 2 * errors.var() == pytest.approx(wanted, rel=0.05)
        assert errors.mean() == pytest.approx(0.0, abs=0.02)
    assert np.corrcoef(noise(by_emulator), noise(virtual))[0, 1] == pytest.approx(0.0, abs=0.05)


def test_the_tensor_engine_hands_the_server_what_the_link_leaves(model: Path) -> None:
    scenario = jscc(model)
    backend = TensorBackend(Setup(scenario))
    decision = Decision(1, keep=0.25, symbols=0.25)
    link = build_link(scenario.channel.link, 0, 0)
    clear = build_link(scenario.channel.link.model_copy(update={"mean_snr_db": 60.0}), 0, 0)
    found = []
    for way in (link, clear, clear):
        upload = backend.upload_symbols(0, CUT, decision, 10.0)
        assert (upload.tokens, upload.symbols) == (17, 17 * 24)
        found.append(backend.received(upload, way, 0.5, 1).handle.values)
    assert found[0].shape == (17, 96)
    assert np.abs(found[1] - found[2]).max() == 0.0
    assert np.abs(found[0] - found[1]).mean() > 1e-3
