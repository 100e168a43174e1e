"""`serve --policy`: what decides on the server is what would decide on the device."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from splitpoint.errors import ConfigError, UsageError
from splitpoint.models.card import read_card
from splitpoint.models.store import resolve
from splitpoint.policies.decision import Decision
from splitpoint.policies.features import FEATURES
from splitpoint.policies.memory import MEMORY
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome
from splitpoint.policies.trained_file import TrainedCard, save_trained
from splitpoint.policies.wire import observation_message, outcome_message, read_decision
from splitpoint.protos import PROTOCOL_VERSION
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import ServiceClient
from splitpoint.server.config import ServerConfig
from splitpoint.server.deciding import PolicySource
from splitpoint.server.engine import Parts
from splitpoint.server.serve import serve
from splitpoint.sim.scenario import BUILT_IN, load_scenario
from splitpoint.sim.serve_policies import policy_source
from splitpoint.sim.setup import Setup

CARD = read_card(resolve("clutter"))


def _seen(number: int) -> Observation:
    random = np.random.default_rng(number)
    rate_bps, snr_db, sigma_db, trip_s = random.random(4).tolist()
    known = (20 * snr_db, 3e6 * rate_bps**2, 4 * sigma_db, 0.05 * trip_s) if number else (math.nan,) * 4
    return Observation(*known, number % 4, known[0] / 5, math.inf, 0.3 * random.random(), True)


def _ended(decision: Decision, number: int) -> Outcome:
    offloaded = decision.split < CARD.depth and number % 3 > 0
    return Outcome(
        decision, min(2, decision.split), offloaded, number % 5 == 0, False, 0.7, 0.1, 0.2, 0.01, 300
    )


def _served(source: PolicySource, count: int, device: str = "0") -> list[Decision]:
    """What boards are told, over a real server, for observations and outcomes one after another."""

    async def main() -> list[Decision]:
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        config = ServerConfig(port=0, grace_s=0.0)
        task = asyncio.create_task(serve(config, Parts(), policies=source, ready=ready.set_result, stop=stop))
        found: list[Decision] = []
        try:
            async with ServiceClient(await ready) as client:
                for number in range(count):
                    told = [_ended(found[-1], number)] if found else []
                    reply = await client.decide(
                        pb.DecideRequest(
                            protocol_version=PROTOCOL_VERSION,
                            device=device,
                            observation=observation_message(_seen(number)),
                            model_id=CARD.id,
                            session="s",
                            outcomes=map(outcome_message, told),
                            first_outcome=max(0, number - 1),
                        ),
                        20.0,
                    )
                    assert not reply.replaced
                    found.append(read_decision(reply.decision, CARD))
        finally:
            stop.set()
            await task
        return found

    return asyncio.run(main())


def _here(policy: Any, count: int) -> list[Decision]:
    found: list[Decision] = []
    for number in range(count):
        if found:
            policy.learn(_ended(found[-1], number))
        found.append(policy.decide(_seen(number)))
    return found


def _trained(folder: Path) -> str:
    names = (*(f.name for f in FEATURES), *MEMORY)
    decisions = tuple({"split": float(split), "keep": 0.3, "exit_margin": 0.7} for split in range(CARD.depth))
    card = TrainedCard(
        algorithm="ppo", environment="splitpoint/Offload-v0", scenario="quickstart", seed=0, steps=1,
        model_id=CARD.id, depth=CARD.depth, deadline_s=0.3, observation=names, mean=(0.0,) * len(names),
        scale=(1.0,) * len(names), layers=1, decisions=decisions,
    )  # fmt: skip
    random = np.random.default_rng(1)
    shape = (len(decisions), len(names))
    arrays = {"weight.0": random.normal(size=shape), "bias.0": random.normal(size=len(decisions))}
    path = folder / "mine.safetensors"
    save_trained(path, card, {name: array.astype(np.float32) for name, array in arrays.items()})
    return str(path)


@pytest.mark.parametrize(
    "named", [lambda _: "greedy", lambda _: "random", _trained], ids=["greedy", "random", "file"]
)
def test_boards_are_told_what_the_scenarios_own_policy_decides(
    named: Callable[[Path], str], tmp_path: Path
) -> None:
    name = named(tmp_path)
    kind: dict[str, Any] = (
        {"kind": "trained", "path": name} if name.endswith("safetensors") else {"kind": name}
    )
    scenario = load_scenario("quickstart", {"policies": [kind]})
    session = Setup(scenario).session(scenario.policies[0], 0)
    wanted = _here(session._policy, 30)
    assert _served(policy_source(name, None, "clutter"), 30) == wanted
    assert len(set(wanted)) > 2


def test_devices_are_those_of_the_scenario(tmp_path: Path) -> None:
    data = yaml.safe_load((BUILT_IN / "quickstart.yaml").read_text())
    slow, fast = (
        data["devices"][0] | {"count": 1, "macs_per_s": 2e7},
        data["devices"][0] | {"macs_per_s": 1e10},
    )
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(data | {"devices": [slow, fast]}))
    source = policy_source("greedy", str(path), "")
    found = {name: _here(source.make(name), 12) for name in ("0", "1", "5", "9" * 40, "a camera", "²")}
    assert found["0"] == found["5"] == found["a camera"] == found["²"] != found["1"]
    assert found["9" * 40] in (found["0"], found["1"])


def test_boards_without_a_modem_try_their_link_again_even_where_the_scenarios_devices_have_one(
    tmp_path: Path,
) -> None:
    data = yaml.safe_load((BUILT_IN / "quickstart.yaml").read_text())
    path = tmp_path / "measured.yaml"
    path.write_text(yaml.safe_dump(data | {"channel": data["channel"] | {"report": {"every_s": 0.1}}}))
    bad = Observation(-10.0, 1e3, 1.0, 0.01, 0, 0.0, math.inf, 0.3, True)
    policy = policy_source("greedy", str(path), "").make("0")
    sends = []
    for _ in range(12):
        decision = policy.decide(bad)
        sends.append(decision.split < CARD.depth)
        policy.learn(_ended(decision, 0)._replace(offloaded=sends[-1]))
    assert not sends[0]
    assert any(sends)


def test_a_policy_of_the_scenario_goes_by_its_name() -> None:
    source = policy_source("split", "quickstart", "")
    assert (source.name, source.card.id) == ("split", CARD.id)
    assert _here(source.make("0"), 2) == [Decision(2, 0.25, 48, 4, exit_margin=0.95)] * 2


@pytest.mark.parametrize(
    ("policy", "scenario", "model", "said"),
    [
        ("gredy", None, "clutter", "did you mean 'greedy'"),
        ("split", None, "clutter", "unknown policy 'split'"),
        ("oracle", "steady", "", "clairvoyant"),
        ("greedy", None, "", "name --policy-scenario"),
    ],
)
def test_what_cannot_decide_for_a_board_is_refused(
    policy: str, scenario: str | None, model: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        policy_source(policy, scenario, model)


def test_a_recorded_run_decides_for_nobody(tmp_path: Path) -> None:
    data = yaml.safe_load((BUILT_IN / "quickstart.yaml").read_text())
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(data | {"policies": [{"kind": "replay", "path": "requests.parquet"}]}))
    with pytest.raises(UsageError, match="replays a run"):
        policy_source("replay", str(path), "")


def test_policies_of_another_network_are_refused_at_the_start() -> None:
    source = policy_source("random", None, "cifar10")
    parts = Parts(device=(CARD, None))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"policy 'random' is for model .* this server runs"):
        asyncio.run(serve(ServerConfig(port=0), parts, policies=source))
