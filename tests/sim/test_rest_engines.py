"""Engines on a network whose codec sends rest tokens: looked up and computed, first part and refinement."""

from __future__ import annotations

import numpy as np
import pytest

from splitpoint.models.data import load_data
from splitpoint.models.grid import Grid
from splitpoint.models.measure import measure
from splitpoint.models.store import codec_arrays, load_network, resolve, save_network
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.scenario import Scenario
from splitpoint.sim.setup import Setup

from .conftest import changed, clutter_folder

KEEPS = (1.0, 63 / 64, 0.25, 0.01)


@pytest.fixture(scope="module")
def rested(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """quickstart on a few images and the shipped network with rest tokens at one cut, its profile measured here."""
    folder = tmp_path_factory.mktemp("rested")
    clutter_folder(folder / "images")
    network, card = load_network("clutter")
    codec = {k: v for k, v in codec_arrays(resolve("clutter")).items() if k.startswith("codec.")}
    model = folder / "rested.safetensors"
    save_network(model, network, card, codec | {"codec.2.rest": np.array([1], np.uint8)})
    profile = measure(
        model,
        load_data(folder / "images", card=card),
        "evaluation",
        grid=Grid((2, 3), KEEPS, (24,), (6, 3), refine_keeps=(1.0, 0.75)),
        progress=False,
    )
    profile.save(folder / "rested.evaluation.npz")
    return changed(model=str(model), data={"name": str(folder / "images")}, requests=60)


def test_profile_and_tensor_agree_on_every_request_with_rest_tokens(rested: Scenario) -> None:
    looked_up, computed = (VirtualEngine(Setup(rested), engine) for engine in ("profile", "tensor"))
    sent, refined = 0, 0
    for keep in KEEPS:
        below = {"refine_margin": 0.9995}
        refining = [{"refine_bits": 6}, *({"refine_keep": more} for more in (0.75, 1.0) if more > keep)]
        for split, more in ((2, {}), (3, {}), *((2, one | below) for one in refining)):
            decision = DecisionConfig(split=split, keep=keep, dims=24, bits=3, **more)  # type: ignore[arg-type]
            policy = StaticPolicy(name="static", decision=decision)
            one, other = looked_up.run(policy), computed.run(policy)
            for name in one:
                if name == "margin":
                    np.testing.assert_allclose(one[name], other[name], atol=1e-4)
                else:
                    np.testing.assert_array_equal(one[name], other[name], err_msg=name)
            sent, refined = sent + int(one["offloaded"].sum()), refined + int(one["refined"].sum())
    assert sent > 800
    assert refined > 150
