"""The server decides for a board; without it, or too late, the board does the safe thing, and answers once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from splitpoint.clock import Clock
from splitpoint.device.agent import Agent
from splitpoint.device.client import Client
from splitpoint.device.load import load_head
from splitpoint.device.realtime_batch import BatchDevice
from splitpoint.device.remote_policy import RemotePolicy
from splitpoint.device.session import Finished, Session
from splitpoint.errors import RemoteError, UsageError
from splitpoint.policies.decision import Decision
from splitpoint.policies.guard import GuardedPolicy
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome, Policy
from splitpoint.policies.rules import Power
from splitpoint.protos.client import ServiceClient
from splitpoint.server.config import ServerConfig
from splitpoint.server.deciding import PolicySource
from splitpoint.server.engine import Parts
from splitpoint.server.serve import serve
from splitpoint.sim.scenario import BUILT_IN

from .conftest import Server, Small, Start, free_address
from .test_realtime import make_encoder

DEADLINE_S = 0.8
SENDING = Decision(2, keep=0.5, bits=4)


class Listening:
    """Keeps all that it is asked and told; locally at the first exit, by turns with or without its margin."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.seen: list[Observation] = []
        self.told: list[Outcome] = []
        self.pause_s = pause_s
        self.begun = 0

    def decide(self, observation: Observation) -> Decision:
        self.begun += 1
        time.sleep(self.pause_s)
        self.seen.append(observation)
        return Decision(4, exit_margin=0.0 if len(self.seen) % 2 else 0.9, keep=1.0 / (2 + len(self.seen)))

    def learn(self, outcome: Outcome) -> None:
        self.told.append(outcome)

    def reset(self, seed: int) -> None: ...


@asynccontextmanager
async def deciding(
    small: Small, make: Callable[[str], Policy], port: int = 0
) -> AsyncIterator[tuple[str, Callable[[], Any]]]:
    """A server of policies alone in this loop: its address, and how to end it at once."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    config = ServerConfig(port=port, grace_s=0.0)
    source = PolicySource("listening", small.card, make)
    task = asyncio.create_task(serve(config, Parts(), policies=source, ready=ready.set_result, stop=stop))

    async def end() -> None:
        stop.set()
        await task

    try:
        yield await ready, end
    finally:
        await end()


@asynccontextmanager
async def board(small: Small, address: str, limit_s: float = 0.7) -> AsyncIterator[BatchDevice]:
    card = small.card
    remote = RemotePolicy(card, "3", limit_s)
    guarded = GuardedPolicy(remote, card, Decision(card.depth))
    session = Session(
        Agent(card.exits, [0.001 * cut for cut in range(card.depth + 1)], 0.02),
        guarded,
        Power(2.5, 1.3, 0.9, 0.3),
        deadline_s=DEADLINE_S,
        coherence_s=0.5,
        battery_j=math.inf,
    )
    async with ServiceClient(address) as client:
        device = BatchDevice(
            session, load_head(small.file), make_encoder(small), client, Clock(), probe_s=0.05, remote=remote
        )
        try:
            yield device
        finally:
            await device.close()


async def ask(device: BatchDevice, small: Small, seed: int = 0) -> Finished:
    return (await device.serve_batch([small.image(seed)], device.clock.now()))[0]


def test_the_server_sees_learns_and_decides_what_a_policy_here_would(small: Small) -> None:
    policies: dict[str, Listening] = {}

    async def run() -> list[Finished]:
        async with (
            deciding(small, lambda device: policies.setdefault(device, Listening())) as (address, _),
            board(small, address) as device,
        ):
            finished = [await ask(device, small, seed) for seed in range(6)]
            return finished + await device.serve_batch([small.image(6), small.image(7)], device.clock.now())

    finished = asyncio.run(run())
    [(name, there)] = policies.items()
    assert name == "3"
    # Equal to the last bit, NaN for NaN; the last outcome came when the device closed.
    assert repr(there.seen) == repr([one.observation for one in finished])
    assert [told.decision for told in there.told] == [one.answer.decision for one in finished]
    assert [told.latency_s for told in there.told] == [one.answer.done_s - one.arrival_s for one in finished]
    assert [told.energy_j for told in there.told] == [one.costs.energy_j for one in finished]
    assert [one.answer.decision.keep for one in finished] == [1.0 / (3 + number) for number in range(8)]
    assert not any(one.policy_replaced for one in finished)
    assert {one.answer.cut for one in finished} == {1, 4}


def test_a_late_decision_costs_its_wait_and_the_safe_default_answers(small: Small) -> None:
    there = Listening(pause_s=0.5)

    async def run() -> None:
        async with (
            deciding(small, lambda _: there) as (address, _),
            board(small, address, limit_s=0.25) as device,
        ):
            first = await ask(device, small)
            assert first.policy_replaced
            assert first.answer.decision == Decision(small.card.depth)
            assert (first.answer.local, first.answer.cut) == (True, small.card.depth)
            assert 0.25 <= first.answer.done_s - first.arrival_s < DEADLINE_S
            assert "no answer in time" in str(device.last_error)
            # While a probe has not found it well, it is not asked.
            assert not device.session.link_up
            second = await ask(device, small)
            assert second.policy_replaced
            assert there.begun == 1
            there.pause_s = 0.0
            while not device.session.link_up:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            assert not (await ask(device, small)).policy_replaced
            assert len(there.told) == 2

    asyncio.run(run())


def test_without_time_for_it_nothing_is_asked(small: Small) -> None:
    there = Listening()

    async def run() -> None:
        async with deciding(small, lambda _: there) as (address, _), board(small, address) as device:
            (finished,) = await device.serve_batch([small.image(0)], device.clock.now() - DEADLINE_S + 0.02)
            assert finished.policy_replaced
            assert finished.answer.local

    asyncio.run(run())
    assert not there.seen


def test_a_server_that_dies_while_it_decides_leaves_the_safe_default_until_it_is_back(small: Small) -> None:
    there, back = Listening(pause_s=0.5), Listening()

    async def run() -> None:
        async with deciding(small, lambda _: there) as (address, end), board(small, address, 0.45) as device:
            asking = asyncio.create_task(ask(device, small))
            await asyncio.sleep(0.02)
            await asyncio.gather(end(), asking)
            for finished in (asking.result(), await ask(device, small)):
                assert finished.policy_replaced
                assert (finished.answer.local, finished.answer.decision.split) == (True, small.card.depth)
                assert finished.answer.done_s - finished.arrival_s < DEADLINE_S
            async with deciding(small, lambda _: back, int(address.rpartition(":")[2])):
                while not device.session.link_up:
                    await asyncio.sleep(0.01)
                assert not (await ask(device, small)).policy_replaced

    asyncio.run(run())
    # The new one is told what the old one could not be.
    assert [told.decision for told in back.told] == [Decision(small.card.depth)] * 2


@pytest.fixture(scope="module")
def far(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario of the small network with a policy that needs no profile."""
    data = yaml.safe_load((BUILT_IN / "quickstart.yaml").read_text())
    decision = {"split": 2, "keep": 0.5, "bits": 4}
    data |= {"model": str(small.file), "policies": [{"kind": "static", "name": "far", "decision": decision}]}
    path = tmp_path_factory.mktemp("far") / "far.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_a_board_follows_a_server_of_its_own_until_that_is_killed(
    small: Small, start_server: Start, far: Path
) -> None:
    options = ("--policy", "far", "--policy-scenario", str(far))
    server = start_server(small.file, "127.0.0.1:0", *options)
    with Client(server.address, small.folder, policy="remote", deadline_s=1.0) as client:
        there = client.infer(small.image(0))
        assert (there.decision, there.where, there.degraded) == (SENDING, "server", False)
        server.kill()
        alone = [client.infer(small.image(seed)) for seed in range(20)]
        assert {(one.decision, one.where, one.late) for one in alone} == {(Decision(4), "local", False)}


def test_a_server_that_does_not_decide_is_named_at_once(server: Server, small: Small) -> None:
    with pytest.raises(RemoteError, match="does not decide for boards: start it with serve --policy"):
        Client(server.address, small.folder, policy="remote")


def test_an_unknown_policy_by_name_is_refused(small: Small) -> None:
    with pytest.raises(UsageError, match="'remote', a Decision or a policy, not 'remot'"):
        Client(free_address(), small.folder, policy="remot")  # type: ignore[arg-type]
