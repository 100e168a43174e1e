"""Bursts whose samples are merged: the tensor engine's answers, their costs, and who refuses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from splitpoint.errors import UsageError
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.records import Table
from splitpoint.sim.scenario import Scenario
from splitpoint.sim.setup import Setup

from .conftest import changed

REQUESTS, SIZE = 48, 4
COMMON: dict[str, Any] = {"split": 1, "keep": 0.5, "dims": 48, "bits": 4}


@pytest.fixture(scope="module")
def engine() -> VirtualEngine:
    return VirtualEngine(Setup(_bursts()), "tensor")


def _bursts(**changes: Any) -> Scenario:
    return changed("bursts", requests=REQUESTS, deadline_s=3.0, **changes)


def _run(engine: VirtualEngine, **decision: Any) -> Table:
    return engine.run(StaticPolicy(name="one", decision=DecisionConfig(**COMMON, **decision)))


def test_a_burst_shares_one_message_and_each_sample_gets_its_groups_answer(engine: VirtualEngine) -> None:
    alone, merged = _run(engine), _run(engine, merge=0.5)
    for columns in (alone, merged):
        assert len(set(zip(columns["device"].tolist(), columns["request"].tolist(), strict=True))) == REQUESTS
        assert not columns["degraded"].any()
    assert merged["uplink_bytes"].sum() < 0.7 * alone["uplink_bytes"].sum()
    for place in range(0, REQUESTS, SIZE):
        burst = slice(place, place + SIZE)
        assert len(set(merged["arrival_s"][burst].tolist())) == 1
        # Two groups of four samples; all are answered when the one reply is there.
        assert len(set(merged["margin"][burst].tolist())) == 2
        assert len(set(merged["done_s"][burst].tolist())) == 1
    assert merged["correct"].mean() < alone["correct"].mean()


def test_hardly_merged_batches_answer_hardly_worse(engine: VirtualEngine) -> None:
    alone, merged = _run(engine), _run(engine, merge=0.99)
    groups = [len(set(merged["margin"][place : place + SIZE].tolist())) for place in range(0, REQUESTS, SIZE)]
    assert set(groups) <= {3}
    assert (merged["prediction"] != alone["prediction"]).mean() < 0.35


def test_who_is_sure_before_the_split_is_not_merged(engine: VirtualEngine) -> None:
    columns = engine.run(
        StaticPolicy(name="exits", decision=DecisionConfig(split=3, keep=0.5, exit_margin=0.95, merge=0.5))
    )
    assert columns["local"].any()
    assert (columns["uplink_bytes"][columns["local"]] == 0).all()
    assert (columns["exit"][columns["local"]] == 0).all()
    assert columns["correct"][columns["local"]].mean() > 0.9


def test_a_lost_server_costs_a_burst_no_answer() -> None:
    faults = [{"kind": kind, "at_s": at_s, "for_s": 1.0} for at_s, kind in ((0.5, "kill"), (3.0, "freeze"))]
    columns = _run(VirtualEngine(Setup(_bursts(faults=faults)), "tensor"), merge=0.5)
    assert np.isnan(columns["server_s"][columns["degraded"]]).all()
    assert len(columns["device"]) == REQUESTS
    assert columns["degraded"].any()
    assert columns["local"][columns["degraded"]].all()
    assert not columns["late"].any()
    assert np.isfinite(columns["energy_j"]).all()


def test_no_profile_knows_merged_answers() -> None:
    engine = VirtualEngine(Setup(_bursts()), "profile")
    with pytest.raises(UsageError, match=r"Decision\.merge 0\.5.*engine tensor or live"):
        _run(engine, merge=0.5)
    assert len(engine.run(StaticPolicy(name="alone", decision=DecisionConfig(split=2)))["device"]) == REQUESTS
