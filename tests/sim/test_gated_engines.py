"""A network with gates in the engines: the profile says what the network does, at every keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splitpoint.errors import GridError
from splitpoint.models.data import load_data
from splitpoint.models.gate_start import start_gates
from splitpoint.models.gated import with_gates
from splitpoint.models.grid import Grid
from splitpoint.models.measure import measure
from splitpoint.models.preprocess import normalise
from splitpoint.models.profile import Profile
from splitpoint.models.store import codec_arrays, load_network, resolve, save_network
from splitpoint.policies.outcomes import walk
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.inputs import load_inputs
from splitpoint.sim.pictures import kept_patches
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.scenario import Scenario
from splitpoint.sim.setup import Setup

from .conftest import changed, clutter_folder

IMAGES = 24


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """quickstart on a few images and the shipped network with fitted gates, its profile measured here."""
    folder = tmp_path_factory.mktemp("gated")
    data = clutter_folder(folder / "images", IMAGES)
    network, card = load_network("clutter")
    codec = {k: v for k, v in codec_arrays(resolve("clutter")).items() if k.startswith("codec.")}
    network = with_gates(network, 0)
    start_gates(network, torch.from_numpy(normalise(data.images[-100:], card)))
    model = folder / "gated.safetensors"
    save_network(model, network, network.card, codec)
    profile = measure(
        model,
        load_data(folder / "images", card=card),
        "evaluation",
        grid=Grid((0, 2, 4), (1.0, 0.5, 0.2), (24,), (8, 2)),
        progress=False,
    )
    profile.save(folder / "gated.evaluation.npz")
    return changed(model=str(model), data={"name": str(folder / "images")}, requests=60)


def _profile(scenario: Scenario) -> Profile:
    return Setup(scenario).evaluation


def _static(name: str, **decision: float) -> StaticPolicy:
    return StaticPolicy(name=name, decision=DecisionConfig(**decision))


POLICIES = [
    _static("early", split=2, keep=0.2, dims=24, bits=2),
    _static("half", split=4, keep=0.5, dims=24, exit_margin=0.7),
    _static("whole", split=2, keep=1.0, dims=24),
    _static("local", split=6, keep=0.2, dims=24, exit_margin=0.95),
    _static("raw", split=0),
]


def test_profile_and_tensor_agree_on_every_request_with_gates(gated: Scenario) -> None:
    looked_up, computed = (VirtualEngine(Setup(gated), engine) for engine in ("profile", "tensor"))
    sent = 0
    for policy in POLICIES:
        one, two = looked_up.run(policy), computed.run(policy)
        for name in one:
            if name == "margin":
                np.testing.assert_allclose(one[name], two[name], atol=1e-4)
            else:
                np.testing.assert_array_equal(one[name], two[name], err_msg=f"{policy.name} {name}")
        sent += int(one["offloaded"].sum())
    assert sent > 100


def test_the_profile_has_the_tokens_of_each_sample_and_a_head_for_each_keep(gated: Scenario) -> None:
    profile = _profile(gated)
    counts = profile.tokens[profile.config(2, 0.5, 24)]
    assert len(np.unique(counts)) > 3
    assert abs(((counts - 1) / profile.card.patch_tokens).mean() - 0.5) < 0.2
    assert (profile.tokens[profile.config(2, 1.0, 24)] == 65).all()
    # Eight planes of 24 dims, one range or one a token; the rest is the same for all, but for lengths of lengths.
    rest = profile.request_bytes[profile.config(2, 0.5, 24)] - 8 * np.ceil(counts * 24 / 8)
    either = np.stack([rest - 4, rest - 4 * counts])
    assert (np.abs(either - np.median(either[1])).min(axis=0) <= 12).all()
    plain, dropped = profile.head(1.0), profile.head(0.2)
    np.testing.assert_array_equal(plain[1], profile.head_margin)
    assert np.abs(plain[1] - dropped[1]).max() > 1e-3
    g = profile.config(4, 0.2, 24)
    np.testing.assert_array_equal(profile.tail_margin[g, :, :2], dropped[1][:, :2])
    with pytest.raises(GridError, match=r"keep 0\.3 is not on"):
        profile.head(0.3)


def test_the_walk_is_what_the_engine_does(gated: Scenario) -> None:
    profile, engine = _profile(gated), VirtualEngine(Setup(gated), "profile")
    for policy in POLICIES[:4]:
        table, outcomes = engine.run(policy), walk(profile, policy.decision.decision())
        fine = ~table["degraded"]
        rows = table["sample"][fine]
        np.testing.assert_array_equal(table["prediction"][fine], outcomes.prediction[rows])
        np.testing.assert_array_equal(table["cut"][fine], outcomes.cut[rows])
        np.testing.assert_array_equal(table["uplink_bytes"][fine], outcomes.nbytes[rows])


def test_patches_drawn_are_those_that_the_gates_leave(gated: Scenario) -> None:
    setup = Setup(gated)
    table = VirtualEngine(setup, "profile").run(POLICIES[1])
    profile = setup.evaluation
    for picture, sample in zip(
        kept_patches(setup, {"half": table}, load_inputs(setup)), table["sample"], strict=False
    ):
        assert len(picture.kept[0.5]) == profile.tokens[profile.config(4, 0.5, 24), sample] - 1
        assert len(picture.kept[0.125]) <= len(picture.kept[0.25]) <= len(picture.kept[0.5])
