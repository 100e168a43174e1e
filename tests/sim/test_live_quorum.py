"""A quorum over real processes: the answers of virtual time, and learners that die and freeze."""

from __future__ import annotations

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

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


def _changed(scenario: Scenario, quorum: dict[str, Any], **changes: Any) -> Scenario:
    assert scenario.quorum is not None
    changes["quorum"] = scenario.quorum.model_dump() | quorum
    return Scenario.model_validate(scenario.model_dump() | changes)


def test_live_answers_are_those_of_virtual_time(noisy_quorum: Scenario, tmp_path: Path) -> None:
    scenario = _changed(noisy_quorum, {"order": "listed", "patience_s": 0.5}, requests=80, deadline_s=1.0)
    setup = Setup(scenario)
    virtual = VirtualEngine(setup, "profile")
    table = virtual.run(scenario.policy("always"))
    write_requests(tmp_path / "requests.parquet", {"always": table}, {})
    replay = policies_named(scenario, [f"replay:{tmp_path / 'requests.parquet'}:always"])[0]
    engine = LiveEngine(setup, folder=tmp_path)
    try:
        found = compare(engine.run(replay), table)
    finally:
        engine.close()
    for name in ("bytes_differ", "place_differs", "device_answers_differ", "server_answers_differ"):
        assert found[name] == 0, found
    assert found["server_answers"] > 20


def test_learners_that_die_and_freeze_cost_votes_never_an_answer(
    noisy_quorum: Scenario, tmp_path: Path
) -> None:
    learners = [
        {"name": "clutter", "place": "a"},
        {"name": "noisy-1", "place": "b"},
        {"name": "noisy-2", "place": "c"},
    ]
    group = noisy_quorum.devices[0].model_dump(mode="json") | {
        "macs_per_s": 4e9,
        "arrivals": {"kind": "poisson", "rate_hz": 3.0},
        "slack_s": 0.04,
    }
    scenario = _changed(
        noisy_quorum,
        {"learners": learners, "patience_s": 0.1, "server": {"macs_per_s": 2e10, "base_s": 0.0005}},
        devices=[group],
        channel={"link": {"kind": "constant", "rate_bps": 2e7, "round_trip_s": 0.01}},
        deadline_s=0.4,
        requests=500,
    )
    faults = [
        Fault(kind="kill", process="b", at_s=8.0, for_s=8.0),
        Fault(kind="freeze", process="c", at_s=9.0, for_s=7.0),
    ]
    engine = LiveEngine(Setup(scenario), folder=tmp_path)

    def run() -> dict[str, np.ndarray]:
        found = engine.run(scenario.policy("server"), faults=faults)
        pairs = set(zip(found["device"].tolist(), found["request"].tolist(), strict=True))
        assert len(pairs) == len(found["device"]) == 500
        assert np.isfinite(found["server_s"][~found["local"]]).all()
        return found

    def judge(found: dict[str, np.ndarray]) -> None:
        assert not found["late"].any()
        assert found["degraded"].mean() < 0.02
        both = (found["start_s"] > 9.5) & (found["done_s"] < 15.5) & ~found["local"]
        assert both.sum() > 40
        assert (found["votes"][both] == 1).all()
        # The survivor is the network as it ships: no worse than it alone.
        assert found["correct"][both].mean() >= 0.95
        # What a restarted process needs to load its network, and a probe.
        whole = (found["start_s"] > 26.0) & ~found["local"]
        assert whole.sum() > 20
        assert (found["votes"][whole] >= 2).mean() > 0.98

    try:
        judged(run, judge)
    finally:
        engine.close()
