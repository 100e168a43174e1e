"""Live runs: real processes over gRPC, held against virtual time and against a server that dies."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitpoint.sim.compare import compare
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.live import LiveEngine
from splitpoint.sim.records import write_requests
from splitpoint.sim.run import policies_named
from splitpoint.sim.scenario import Scenario
from splitpoint.sim.sections import Fault
from splitpoint.sim.setup import Setup

from ..quiet import judged
from .conftest import changed

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

SERVER_LOST_S, SERVER_BACK_S = 3.0, 3.0


def _busy(**changes: object) -> Scenario:
    """Enough requests to lose a server among them: 4 devices, 26 a second, a link that never hinders."""
    device = {"count": 4, "macs_per_s": 1e9, "arrivals": {"kind": "poisson", "rate_hz": 6.5}, "slack_s": 0.04}
    policies = [
        {"kind": "static", "name": "sending", "decision": {"split": 1, "keep": 0.25, "dims": 24, "bits": 4}}
    ]
    return changed(
        devices=[device],
        channel={"link": {"kind": "constant", "rate_bps": 2e7, "round_trip_s": 0.01}},
        deadline_s=0.3,
        requests=500,
        policies=policies,
        **changes,
    )


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    engine = LiveEngine(Setup(_busy()), folder=tmp_path_factory.mktemp("live"))
    yield engine
    engine.close()


@pytest.mark.parametrize("kind", ["kill", "freeze", "drain"])
def test_losing_the_server_costs_accuracy_never_an_answer(live: LiveEngine, kind: str) -> None:
    fault = Fault(kind=kind, at_s=SERVER_LOST_S, for_s=SERVER_BACK_S)

    def run() -> dict[str, np.ndarray]:
        columns = live.run(live.setup.scenario.policies[0], faults=[fault])
        pairs = set(zip(columns["device"].tolist(), columns["request"].tolist(), strict=True))
        assert len(pairs) == len(columns["device"]) == 500
        return columns

    def judge(columns: dict[str, np.ndarray]) -> None:
        events = dict(live.events)
        lost_s, back_s = events[kind], events["thaw" if kind == "freeze" else "ready"]
        assert columns["latency_s"].max() <= 0.3 + 0.05
        # The answers that the server was working on when it was told to drain are the server's still.
        gap = (columns["arrival_s"] > lost_s + 0.3) & (columns["arrival_s"] < back_s - 0.3)
        assert gap.sum() > 50
        assert columns["degraded"][gap].all()
        before = columns["done_s"] < lost_s
        assert not columns["degraded"][before].any()
        resumed = ~columns["degraded"] & columns["offloaded"] & (columns["start_s"] > back_s)
        for device in range(4):
            mine = resumed & (columns["device"] == device)
            assert columns["start_s"][mine].min() < back_s + 2.0
        settled = columns["start_s"] > back_s + 2.0
        assert columns["degraded"][settled].mean() < 0.02 if settled.any() else True

    judged(run, judge)


def test_live_agrees_with_virtual_time_on_replayed_decisions(tmp_path: Path) -> None:
    # Few enough requests, and a seed, with which no quantile lies where queueing begins or between two ways of being
    # answered: there a millisecond is many.
    group = changed().devices[0].model_dump(mode="json") | {"arrivals": {"kind": "poisson", "rate_hz": 2.5}}
    scenario = changed(requests=100, deadline_s=1.0, devices=[group], seed=3)
    setup = Setup(scenario)
    virtual = VirtualEngine(setup, "profile")
    tables = {policy.name: virtual.run(policy) for policy in scenario.policies}
    write_requests(tmp_path / "requests.parquet", tables, {})
    engine = LiveEngine(setup, folder=tmp_path)

    def run(name: str) -> dict[str, Any]:
        replay = policies_named(scenario, [f"replay:{tmp_path / 'requests.parquet'}:{name}"])[0]
        result = compare(engine.run(replay), tables[name])
        exact = (
            "decisions_differ",
            "bytes_differ",
            "place_differs",
            "device_answers_differ",
            "server_answers_differ",
        )
        assert not any(result[name] for name in exact), result
        return result

    def judge(result: dict[str, Any]) -> None:
        assert result["within"], result["latency"]

    try:
        for name in ("split", "server", "greedy"):
            judged(partial(run, name), judge)
    finally:
        engine.close()


def test_a_run_whose_server_died_is_none(tmp_path: Path) -> None:
    from splitpoint.errors import RemoteError

    one = changed().devices[0].model_dump(mode="json") | {"count": 1}
    engine = LiveEngine(Setup(changed(requests=2, devices=[one])), folder=tmp_path)
    try:
        server = json.loads((tmp_path / "processes.json").read_text())["processes"][0]
        assert server["name"] == "the server"
        os.kill(server["pid"], signal.SIGKILL)
        with pytest.raises(RemoteError, match="the server ended with status -9"):
            engine.run(engine.setup.scenario.policy("server"))
    finally:
        engine.close()


def test_a_device_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    from splitpoint.errors import RemoteError

    with pytest.raises(RemoteError, match="device 0"):
        LiveEngine(Setup(changed(requests=4)), folder=tmp_path, head="onnx")


def test_a_given_server_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    from splitpoint.errors import RemoteError

    with pytest.raises(RemoteError, match=r"^127\.0\.0\.1:1: not reachable"):
        LiveEngine(Setup(changed(requests=4)), folder=tmp_path, server="127.0.0.1:1")
    assert not list(tmp_path.glob("*.log"))


def test_compare_counts_what_differs() -> None:
    setup = Setup(changed(requests=60))
    engine = VirtualEngine(setup, "profile")
    columns = engine.run(setup.scenario.policy("greedy"))
    same = compare(columns, columns)
    assert same["within"]
    assert same["near_ties"] == same["bytes_differ"] == 0
    sent = np.flatnonzero(~columns["local"])
    other = dict(columns) | {
        "prediction": np.where(np.arange(60) == sent[0], 11, columns["prediction"]),
        "uplink_bytes": columns["uplink_bytes"] + (np.arange(60) == sent[1]),
    }
    differs = compare(other, columns)
    assert differs["server_answers_differ"] == differs["bytes_differ"] == 1
    assert not differs["within"]
    slow = dict(columns) | {"latency_s": columns["latency_s"] * 1.3}
    assert not compare(slow, columns)["within"]
