"""What the live engine asks of its processes before a policy's run, and looks at behind it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from splitpoint.errors import RemoteError
from splitpoint.sim.live import LiveEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.processes import Process

POLICY = StaticPolicy(kind="static", name="local", decision=DecisionConfig(split=6))


class Slow:
    """A device that takes longer to make its policy than a run takes to begin."""

    name = "device 0"

    def __init__(self, makes: dict[str, Any]) -> None:
        self.makes = makes
        self.made_s = 0.0
        self.epochs: list[float] = []

    async def tell(self, message: dict[str, Any]) -> None:
        self.epochs += [message["epoch"]] if "epoch" in message else []

    async def message(self, timeout_s: float | None = None) -> dict[str, Any]:
        if self.made_s:
            return {"records": []}
        await asyncio.sleep(0.7)
        self.made_s = time.time()
        return self.makes


def _engine(device: Slow, monkeypatch: pytest.MonkeyPatch) -> LiveEngine:
    async def reset(address: str, epoch: float) -> None:
        pass

    monkeypatch.setattr("splitpoint.channel.emulator_process.reset_emulator", reset)
    engine: Any = LiveEngine.__new__(LiveEngine)
    engine.events, engine._devices = [], [device]
    engine._servers, engine._emulator, engine._emulator_address = None, None, ""
    made: LiveEngine = engine
    return made


def test_a_run_begins_when_all_devices_have_made_its_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Slow({"made": True})
    assert asyncio.run(_engine(device, monkeypatch)._run(POLICY, ())) == []
    assert len(device.epochs) == 1
    assert device.epochs[0] > device.made_s


def test_a_policy_that_a_device_cannot_make_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Slow({"error": "there is no file x"})
    with pytest.raises(RemoteError, match="device 0: there is no file x"):
        asyncio.run(_engine(device, monkeypatch)._run(POLICY, ()))
    assert not device.epochs


def test_a_process_that_has_ended_by_itself_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        process = Process("the channel emulator", ["--version"], tmp_path / "log")
        process.check()
        await process.start()
        process.check()
        await process.ended()
        process.check()

    with pytest.raises(RemoteError, match="the channel emulator ended with status 0"):
        asyncio.run(run())
