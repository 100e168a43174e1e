"""Raw inputs that are sent lossily: alike in both virtual engines, smaller, and never looked up by mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splitpoint.errors import ConfigError, DataError, UsageError
from splitpoint.models.data import load_data
from splitpoint.models.grid import Grid
from splitpoint.models.measure import measure
from splitpoint.models.profile import Profile
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.records import Table
from splitpoint.sim.scenario import Scenario, load_scenario
from splitpoint.sim.setup import Setup

from .conftest import changed, clutter_folder

COARSE = "webp:5"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """quickstart on a few images, with an evaluation profile of raw inputs, lossless and coarse."""
    folder = tmp_path_factory.mktemp("image-format")
    clutter_folder(folder / "images", 16)
    scenario = changed(data={"name": str(folder / "images")}, requests=60)
    loaded = load_data(folder / "images", card=Setup(scenario).card)
    for image in ("png", COARSE):
        grid = Grid((0,), (1.0,), (96,), (8,))
        profile = measure("clutter", loaded, "evaluation", grid=grid, image_format=image, progress=False)
        profile.save(folder / f"{image[:3]}.npz")
    return scenario


def _run(scenario: Scenario, engine: str, image: str, profile: str = "") -> Table:
    path = Path(scenario.data.name).parent / f"{(profile or image)[:3]}.npz"
    changes = {"image_format": image, "profiles": {"evaluation": path}}
    virtual = VirtualEngine(Setup(scenario.model_copy(update=changes)), engine)
    return virtual.run(StaticPolicy(name="one", decision=DecisionConfig(split=0)))


def test_lossy_inputs_are_looked_up_as_they_are_computed(measured: Scenario) -> None:
    looked_up, computed = (_run(measured, engine, COARSE) for engine in ("profile", "tensor"))
    for name in ("uplink_bytes", "prediction", "latency_s"):
        np.testing.assert_array_equal(looked_up[name], computed[name], err_msg=name)
    np.testing.assert_allclose(looked_up["margin"], computed["margin"], atol=1e-4)
    lossless = _run(measured, "profile", "png")
    assert np.median(looked_up["uplink_bytes"]) < 0.2 * np.median(lossless["uplink_bytes"])
    assert (looked_up["margin"] != lossless["margin"]).any()


def test_answers_to_other_inputs_are_not_looked_up(measured: Scenario) -> None:
    with pytest.raises(UsageError, match="raw inputs as 'png', not 'webp:5'"):
        _run(measured, "profile", COARSE, profile="png")
    path = Path(measured.data.name).parent / f"{COARSE[:3]}.npz"
    assert Profile.load(path).image_format == COARSE


@pytest.mark.parametrize("image", ["gif", "webp", "webp:", "webp:101", "jpeg:-1", "png:5", "webp:5.0"])
def test_other_formats_are_refused(image: str, measured: Scenario) -> None:
    with pytest.raises(ConfigError, match="image_format: must be png, webp:QUALITY or jpeg:QUALITY"):
        load_scenario("quickstart", {"image_format": image})
    with pytest.raises(DataError, match="webp:QUALITY"):
        _run(measured, "tensor", image)


def test_learners_of_a_quorum_get_lossless_images() -> None:
    with pytest.raises(ConfigError, match="lossless"):
        load_scenario("quorum", {"image_format": COARSE})
