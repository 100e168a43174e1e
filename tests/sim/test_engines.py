"""The virtual-time engines: parity, determinism, paired comparison, faults, and what quickstart promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from splitpoint.errors import DataError
from splitpoint.models.data import load_data
from splitpoint.models.measure import measure
from splitpoint.policies.candidates import grid_decisions
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.metrics import request_utility
from splitpoint.sim.policy_config import DecisionConfig, OraclePolicy, StaticPolicy
from splitpoint.sim.records import Table
from splitpoint.sim.run import policies_named
from splitpoint.sim.scenario import Scenario
from splitpoint.sim.sections import BudgetsConfig
from splitpoint.sim.setup import Setup
from splitpoint.sim.virtual import VirtualDevice, VirtualRun

from .conftest import changed

IMAGES = 48


def _static(name: str, **decision: Any) -> StaticPolicy:
    return StaticPolicy(name=name, decision=DecisionConfig(**decision))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """quickstart on a few images, with their evaluation profile measured on this machine."""
    folder = tmp_path_factory.mktemp("parity")
    data = load_data("clutter", "evaluation")
    for index in range(IMAGES):
        place = folder / "images" / str(data.labels[index])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[index, :, :, 0]).save(place / f"{index:04}.png")
    for label in range(10):
        (folder / "images" / str(label)).mkdir(exist_ok=True)
    scenario = changed(
        data={"name": str(folder / "images")},
        profiles={"evaluation": str(folder / "evaluation.npz")},
        requests=100,
    )
    setup = Setup(scenario)
    profile = measure("clutter", load_data(folder / "images", card=setup.card), "evaluation", progress=False)
    profile.save(folder / "evaluation.npz")
    return scenario


def _tables(scenario: Scenario, engine: str, policies: list[Any]) -> list[Table]:
    virtual = VirtualEngine(Setup(scenario), engine)
    return [virtual.run(policy) for policy in policies]


def test_segments_that_nobody_leaves_are_taken_in_one_go_without_changing_anything() -> None:
    # With a fault to come, even long after the last request, the server goes from segment to segment.
    busy = {
        "server": {"macs_per_s": 1.0e9, "base_s": 0.004, "max_batch": 3, "max_pending": 6},
        "requests": 300,
    }
    policies = [
        _static("raw", split=0, exit_margin=0.6),
        _static("sure", split=1, keep=0.5, dims=48, bits=4, exit_margin=0.9),
        _static("last", split=2, keep=0.25, dims=24, bits=4),
    ]
    at_once = _tables(changed(**busy), "profile", policies)
    stepwise = _tables(
        changed(**busy, faults=[{"kind": "kill", "at_s": 1e6, "for_s": 1.0}]), "profile", policies
    )
    for one, other in zip(at_once, stepwise, strict=True):
        assert one["offloaded"].any()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], name)


def test_profile_and_tensor_agree_on_every_request(measured: Scenario) -> None:
    policies = [
        *measured.policies,
        _static("early", split=1, keep=0.25, dims=24, bits=2, exit_margin=0.5),
        _static("deep", split=5, keep=0.5, dims=48, bits=4),
        _static("slope", split=6, keep=0.125, dims=96, bits=8, exit_margin=0.9999, offload_slope=0.01),
    ]
    both = zip(_tables(measured, "profile", policies), _tables(measured, "tensor", policies), strict=True)
    sent = 0
    for looked_up, computed in both:
        for name in looked_up:
            if name == "margin":
                np.testing.assert_allclose(looked_up[name], computed[name], atol=1e-4)
            else:
                np.testing.assert_array_equal(looked_up[name], computed[name], err_msg=name)
        sent += int(looked_up["offloaded"].sum())
    assert sent > 200


def test_every_request_is_answered_once(quickstart: Scenario) -> None:
    for columns in _tables(quickstart, "profile", list(quickstart.policies)):
        pairs = set(zip(columns["device"].tolist(), columns["request"].tolist(), strict=True))
        assert len(pairs) == len(columns["device"]) == quickstart.requests


def test_equal_seeds_give_equal_runs_and_others_differ() -> None:
    first, again, other = (
        _tables(changed(seed=seed), "profile", [changed().policy("greedy")])[0] for seed in (7, 7, 8)
    )
    assert all(np.array_equal(first[name], again[name], equal_nan=True) for name in first)
    assert not np.array_equal(first["arrival_s"], other["arrival_s"])
    assert not np.array_equal(first["sample"], other["sample"])


def test_policies_of_a_run_see_the_same_arrivals_inputs_and_fading(quickstart: Scenario) -> None:
    # Raw inputs of equal size over a medium of their own: whatever differs would be the channel.
    scenario = changed(
        channel=quickstart.channel.model_dump(mode="json") | {"uplink": {"kind": "dedicated"}}, deadline_s=5.0
    )
    one, two = _tables(scenario, "profile", [_static("a", split=0), _static("b", split=0, exit_margin=0.5)])
    for name in ("arrival_s", "sample", "label"):
        np.testing.assert_array_equal(one[name], two[name])
    together = one["start_s"] == two["start_s"]
    assert together.mean() > 0.5
    # An airtime is an end less a start, whose last bits depend on what else the clock has added up.
    np.testing.assert_allclose(one["airtime_up_s"][together], two["airtime_up_s"][together], rtol=1e-9)


def _best_statics(scenario: Scenario) -> tuple[list[StaticPolicy], list[np.ndarray]]:
    """Static policies over a part of the grid, and the utility of each request under each of them."""
    setup = Setup(scenario)
    engine = VirtualEngine(setup, "profile")
    decisions = [
        d
        for d in grid_decisions(setup.calibration, (0.5,))
        if d.split in (0, setup.card.depth) or (d.split in (1, 2, 3) and d.dims < 96 and d.keep <= 0.5)
    ]
    policies = [
        _static(f"{index}", split=d.split, keep=d.keep, dims=d.dims, bits=d.bits, exit_margin=d.exit_margin)
        for index, d in enumerate(decisions)
    ]
    return policies, [request_utility(engine.run(policy), scenario.weights()) for policy in policies]


def test_quickstart_needs_several_decisions_and_adapting_pays(quickstart: Scenario) -> None:
    policies, utilities = _best_statics(quickstart)
    values = np.stack(utilities)
    # Splits behind an exit that answers all do the same thing: equal Decisions count once, as the first of them.
    wins = np.bincount(values.argmax(axis=0), minlength=len(policies))
    assert (wins >= 0.01 * quickstart.requests).sum() >= 3
    greedy = _tables(quickstart, "profile", policies_named(quickstart, ["greedy"]))[0]
    assert request_utility(greedy, quickstart.weights()).mean() >= values.mean(axis=1).max()


@pytest.mark.parametrize("kind", ["kill", "freeze", "drain"])
def test_a_lost_server_costs_accuracy_never_an_answer(kind: str) -> None:
    scenario = changed(requests=400, faults=[{"kind": kind, "at_s": 8.0, "for_s": 5.0}])
    columns = _tables(scenario, "profile", [_static("s", split=1, keep=0.125, dims=24, bits=2)])[0]
    inside = (columns["start_s"] > 8.5) & (columns["start_s"] < 12.5)
    after = columns["start_s"] > 14.0
    assert len(columns["device"]) == 400
    assert inside.sum() > 20
    assert columns["degraded"][inside].all()
    assert (columns["latency_s"] <= scenario.deadline_s + 0.05).mean() > 0.97
    assert (~columns["degraded"][after]).mean() > 0.8


def test_a_full_battery_only_drains_and_an_outage_degrades() -> None:
    base = changed()
    link = base.channel.link.model_dump(mode="json") | {"outages": {"windows": [[2.0, 6.0]]}}
    scenario = changed(channel={"link": link}, requests=200)
    columns = _tables(scenario, "profile", [_static("s", split=1, keep=0.125, dims=24, bits=2)])[0]
    inside = (columns["start_s"] > 2.0) & (columns["done_s"] < 6.0)
    assert inside.any()
    assert columns["degraded"][inside].all()
    assert not columns["degraded"][columns["start_s"] > 7.0].all()


def test_round_robin_serves_all_and_shares_the_medium(quickstart: Scenario) -> None:
    scenario = changed(
        channel=quickstart.channel.model_dump(mode="json") | {"uplink": {"kind": "round_robin"}},
        deadline_s=2.0,
    )
    columns = _tables(scenario, "profile", [_static("raw", split=0)])[0]
    assert len(columns["device"]) == quickstart.requests
    assert (columns["uplink_s"][~columns["local"]] >= columns["airtime_up_s"][~columns["local"]]).all()


def test_requests_survive_the_parquet_file(quickstart: Scenario, tmp_path: Path) -> None:
    from splitpoint.sim.records import read_requests, write_requests

    columns = _tables(quickstart, "profile", [quickstart.policy("split")])[0]
    write_requests(tmp_path / "requests.parquet", {"split": columns}, {"seed": 0})
    tables, about = read_requests(tmp_path / "requests.parquet")
    assert about == {"seed": 0}
    assert all(np.array_equal(columns[name], tables["split"][name], equal_nan=True) for name in columns)


@pytest.mark.parametrize("ends", ["link", "server", "bursts"])
def test_a_run_ends_with_its_last_answer(
    quickstart: Scenario, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    whole, changes = quickstart.model_dump(), {"requests": 12}
    if ends == "server":
        changes |= {"faults": [{"kind": "kill", "at_s": 0.1, "for_s": 2000.0}]}
    else:
        outages = {"windows": [(0.0, 2000.0)]}
        changes |= {"channel": whole["channel"] | {"link": whole["channel"]["link"] | {"outages": outages}}}
    if ends == "bursts":
        bursts = {"kind": "bursts", "rate_hz": 1.0, "size": 3}
        changes |= {"devices": [whole["devices"][0] | {"arrivals": bursts}]}
    probes: list[float] = []
    probe = VirtualRun._probe

    def counted(run: VirtualRun, now_s: float, device: VirtualDevice) -> None:
        probes.append(now_s)
        probe(run, now_s, device)

    monkeypatch.setattr(VirtualRun, "_probe", counted)
    found = VirtualEngine(Setup(Scenario.model_validate(whole | changes)), "profile").run(
        _static("send", split=0)
    )
    assert len(found["done_s"]) == 12
    assert found["degraded"].any()
    assert max(probes) <= found["done_s"].max() + 1e-9


def test_progress_counts_what_is_asked_for(quickstart: Scenario) -> None:
    oracle = OraclePolicy(exit_margins=(0.5,))
    scenario = quickstart.model_copy(update={"requests": 12, "budgets": BudgetsConfig(energy_j=0.01)})
    seen: list[None] = []
    VirtualEngine(Setup(scenario), "profile", lambda: seen.append(None)).run(oracle)
    assert len(seen) == 12


def test_replayed_decisions_give_the_same_run(quickstart: Scenario, tmp_path: Path) -> None:
    from splitpoint.sim.records import write_requests

    setup = Setup(quickstart)
    engine = VirtualEngine(setup, "profile")
    columns = engine.run(quickstart.policy("greedy"))
    write_requests(tmp_path / "requests.parquet", {"greedy": columns}, {})
    replay = policies_named(quickstart, [f"replay:{tmp_path / 'requests.parquet'}"])[0]
    again = engine.run(replay)
    assert all(np.array_equal(columns[name], again[name], equal_nan=True) for name in columns)
    # A file that knows less of its Decisions is of an older version.
    write_requests(
        tmp_path / "old.parquet", {"greedy": {k: v for k, v in columns.items() if k != "merge"}}, {}
    )
    with pytest.raises(DataError, match="no column 'merge'"):
        engine.run(policies_named(quickstart, [f"replay:{tmp_path / 'old.parquet'}"])[0])
