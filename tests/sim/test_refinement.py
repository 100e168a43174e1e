"""Refined requests in virtual time: looked up and computed alike, charged for both messages, never lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitpoint.errors import GridError, UsageError
from splitpoint.models.data import load_data
from splitpoint.models.grid import Grid
from splitpoint.models.measure import measure
from splitpoint.models.profile import Profile
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.records import Table
from splitpoint.sim.scenario import Scenario
from splitpoint.sim.setup import Setup

from .conftest import changed, clutter_folder

IMAGES = 16
COMMON: dict[str, Any] = {"split": 2, "keep": 0.125, "dims": 24}
FIXED = DecisionConfig(**COMMON, bits=1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """quickstart on a few images, with a small evaluation profile of them for each coder."""
    folder = tmp_path_factory.mktemp("refinement")
    clutter_folder(folder / "images", IMAGES)
    scenario = changed(data={"name": str(folder / "images")}, requests=60)
    loaded = load_data(folder / "images", card=Setup(scenario).card)
    grid = Grid((2,), (0.125,), (24,), (4, 1), refine_keeps=(1.0, 0.5))
    for coder in ("packed", "ans"):
        profile = measure("clutter", loaded, "evaluation", grid=grid, coder=coder, progress=False)
        profile.save(folder / f"{coder}.npz")
    return scenario


def _run(
    scenario: Scenario, engine: str, decision: DecisionConfig, coder: str = "packed", **changes: Any
) -> Table:
    folder = Path(scenario.data.name).parent
    changes |= {"coder": coder, "profiles": {"evaluation": folder / f"{coder}.npz"}}
    virtual = VirtualEngine(Setup(scenario.model_copy(update=changes)), engine)
    return virtual.run(StaticPolicy(name="one", decision=decision))


def _agree(looked_up: Table, computed: Table) -> None:
    for name in looked_up:
        if name == "margin":
            np.testing.assert_allclose(looked_up[name], computed[name], atol=1e-4)
        else:
            np.testing.assert_array_equal(looked_up[name], computed[name], err_msg=name)


@pytest.fixture(scope="module")
def half(measured: Scenario) -> DecisionConfig:
    """Refines about every second sample."""
    profile = Profile.load(Path(measured.data.name).parent / "packed.npz")
    margins = profile.tail_margin[profile.config(2, 0.125, 24, 1), :, -1]
    return DecisionConfig(**COMMON, bits=1, refine_bits=4, refine_margin=float(np.median(margins)))


@pytest.mark.parametrize("coder", ["packed", "ans"])
def test_profile_and_tensor_agree_on_every_request(
    measured: Scenario, half: DecisionConfig, coder: str
) -> None:
    decision = half if coder == "packed" else FIXED
    looked_up, computed = (_run(measured, engine, decision, coder) for engine in ("profile", "tensor"))
    _agree(looked_up, computed)
    assert 0.2 < looked_up["refined"].mean() < 0.8 or coder == "ans"
    assert looked_up["offloaded"].any()


@pytest.mark.parametrize("coder", ["packed", "ans"])
@pytest.mark.parametrize("refine_keep", [0.5, 1.0])
def test_further_tokens_are_looked_up_and_computed_alike(
    measured: Scenario, half: DecisionConfig, coder: str, refine_keep: float
) -> None:
    decision = half.model_copy(update={"refine_bits": 0, "refine_keep": refine_keep})
    looked_up, computed = (_run(measured, engine, decision, coder) for engine in ("profile", "tensor"))
    _agree(looked_up, computed)
    assert 0.2 < looked_up["refined"].mean() < 0.8
    alone, (first, *_) = _run(measured, "profile", FIXED, coder), np.unique(looked_up["uplink_bytes"])
    assert looked_up["uplink_bytes"].max() > first + 8 * (64 * refine_keep - 8) * 24 / 64
    assert (looked_up["uplink_bytes"] > alone["uplink_bytes"])[looked_up["offloaded"]].all()


def test_a_keep_that_was_not_measured_is_named(measured: Scenario, half: DecisionConfig) -> None:
    decision = half.model_copy(update={"refine_bits": 0, "refine_keep": 0.75})
    with pytest.raises(GridError, match=r"refine_keep 0\.75 is not on the profile's grid: 1, 0\.5"):
        _run(measured, "profile", decision)


def test_the_second_message_costs_bytes_and_a_round_trip(measured: Scenario, half: DecisionConfig) -> None:
    once, twice = (_run(measured, "profile", decision) for decision in (FIXED, half))
    served = ~once["degraded"] & ~twice["degraded"]
    refined, plain = served & twice["refined"], served & ~twice["refined"]
    planes = 3 * (2 + (9 * 24 + 7) // 8)
    # The margin in the first message; then planes, their frame, and the model's id in the second.
    assert set(twice["uplink_bytes"][plain] - once["uplink_bytes"][plain]) == {5}
    [further] = set(twice["uplink_bytes"][refined] - once["uplink_bytes"][refined])
    assert planes < further - 5 < planes + 60
    assert set(twice["downlink_bytes"][refined] - 2 * once["downlink_bytes"][refined]) == {11}
    alone = once["start_s"] == twice["start_s"]
    later = (twice["latency_s"] - once["latency_s"])[refined & alone]
    assert later.size
    assert (later > measured.channel.link.round_trip_s + measured.devices[0].overhead_s).all()


def test_a_server_that_is_always_sure_is_the_fixed_width(measured: Scenario, half: DecisionConfig) -> None:
    never = half.model_copy(update={"refine_margin": 0.0})
    once, twice = (_run(measured, "profile", decision) for decision in (FIXED, never))
    assert not twice["refined"].any()
    np.testing.assert_array_equal(once["prediction"], twice["prediction"])


@pytest.mark.parametrize("kind", ["kill", "freeze", "drain"])
def test_a_server_lost_between_the_messages_leaves_an_answer(
    measured: Scenario, half: DecisionConfig, kind: str
) -> None:
    faults = changed(faults=[{"kind": kind, "at_s": at_s, "for_s": 0.3} for at_s in range(1, 30)]).faults
    always = half.model_copy(update={"refine_margin": 1.1})
    columns = _run(measured, "profile", always, faults=faults, requests=400)
    assert len(set(zip(columns["device"].tolist(), columns["request"].tolist(), strict=True))) == 400
    first_only = columns["refined"] & columns["degraded"]
    assert first_only.any()
    assert not columns["local"][first_only].any()
    assert (columns["latency_s"] <= measured.deadline_s + 0.05).mean() > 0.95
    assert np.isfinite(columns["energy_j"]).all()


def test_planes_of_unknown_size_are_refused_by_name(measured: Scenario, half: DecisionConfig) -> None:
    with pytest.raises(UsageError, match=r"Decision\.refine_bits.*engine tensor"):
        _run(measured, "profile", half, "ans")
