"""A quorum in virtual time: both engines agree, it stops early, and it lives without some of its learners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitpoint.errors import ConfigError
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.records import Table
from splitpoint.sim.scenario import Scenario
from splitpoint.sim.setup import Setup


@pytest.fixture
def scenario(noisy_quorum: Scenario) -> Scenario:
    return noisy_quorum


def _run(
    scenario: Scenario, engine: str, policy: str, deadline_s: float | None = None, **quorum: Any
) -> Table:
    assert scenario.quorum is not None
    changes: dict[str, Any] = {"quorum": scenario.quorum.model_dump() | quorum}
    if deadline_s is not None:
        changes["deadline_s"] = deadline_s
    scenario = Scenario.model_validate(scenario.model_dump() | changes)
    virtual = VirtualEngine(Setup(scenario), engine)
    return virtual.run(scenario.policy(policy))


@pytest.mark.parametrize("policy", ["server", "split", "greedy"])
def test_profile_and_tensor_agree_on_every_request(scenario: Scenario, policy: str) -> None:
    profile, tensor = (_run(scenario, engine, policy) for engine in ("profile", "tensor"))
    for name in ("prediction", "cut", "exit", "votes", "asked", "quorum_macs", "uplink_bytes", "done_s"):
        np.testing.assert_array_equal(profile[name], tensor[name], err_msg=name)
    assert len(profile["sample"]) == 120


@pytest.mark.parametrize("policy", ["server", "split"])
def test_asking_all_at_once_gives_the_same_answers_sooner(scenario: Scenario, policy: str) -> None:
    # No answer is cut short by a deadline, at which the one has heard less than the other.
    one_by_one = _run(scenario, "profile", policy, 10.0, patience_s=10.0)
    at_once = _run(scenario, "profile", policy, 10.0, patience_s=10.0, parallel=True)
    same = ~(one_by_one["degraded"] | at_once["degraded"]) & (one_by_one["cut"] == at_once["cut"])
    assert same.sum() > 60
    for name in ("prediction", "exit", "votes"):
        np.testing.assert_array_equal(one_by_one[name][same], at_once[name][same])
    sent = same & one_by_one["offloaded"]
    assert np.nanmean(at_once["server_s"][sent]) < np.nanmean(one_by_one["server_s"][sent])
    assert at_once["quorum_macs"][sent].mean() >= one_by_one["quorum_macs"][sent].mean()


def test_the_devices_learner_votes_with_what_it_has_said(scenario: Scenario) -> None:
    split = _run(scenario, "profile", "split")
    sent = split["offloaded"] & ~split["degraded"]
    assert sent.any()
    assert (split["asked"][sent] >= 2).all()
    assert (split["votes"][sent] >= 2).all()
    assert (split["votes"][~split["offloaded"]] == 0).all()
    unasked = _run(scenario, "profile", "server")
    assert unasked["asked"].max() == 2


@pytest.mark.parametrize("kind", ["kill", "freeze"])
def test_losing_a_learner_shrinks_the_quorum_and_answers_everything(scenario: Scenario, kind: str) -> None:
    fault = {"kind": kind, "process": "a", "at_s": 2.0, "for_s": 4.0}
    hurt = Scenario.model_validate(scenario.model_dump() | {"faults": [fault]})
    found = _run(hurt, "profile", "server")
    whole = _run(scenario, "profile", "server")
    assert len(found["sample"]) == 120
    answered = found["done_s"][~found["local"]]
    votes = found["votes"][~found["local"]]
    inside = (answered > 2.3) & (answered < 5.9)
    assert inside.sum() > 3
    assert (votes[inside] == 1).all()
    # Some time after its return the learner votes again.
    np.testing.assert_array_equal(
        found["votes"][found["start_s"] > 7.0], whole["votes"][found["start_s"] > 7.0]
    )


def test_a_learner_whose_queue_is_full_refuses_and_the_other_answers(scenario: Scenario) -> None:
    """Two learners of one process, asked at once: the second finds the first there."""
    assert scenario.quorum is not None
    learners = [learner.model_dump() | {"place": "a"} for learner in scenario.quorum.learners[1:]]
    server = scenario.quorum.server.model_dump()
    votes = []
    for most in (1, 256):
        beside = {"parallel": True, "server": server | {"max_pending": most}}
        found = _run(scenario, "profile", "server", learners=learners, **beside)
        assert len(found["sample"]) == 120
        votes.append(int(found["votes"].max()))
    assert votes == [1, 2]


def test_learners_that_are_all_late_have_till_the_deadline(scenario: Scenario) -> None:
    patient = _run(scenario, "profile", "server", patience_s=10.0)
    hasty = _run(scenario, "profile", "server", patience_s=1e-4)
    assert (~hasty["local"]).sum() > 60
    np.testing.assert_array_equal(hasty["degraded"], patient["degraded"])
    np.testing.assert_array_equal(hasty["prediction"], patient["prediction"])
    np.testing.assert_array_equal(hasty["votes"], patient["votes"])


def test_at_the_deadline_the_answer_of_those_that_spoke_still_reaches_the_device(scenario: Scenario) -> None:
    fault = {"kind": "freeze", "process": "a", "at_s": 2.0, "for_s": 4.0}
    # A short way back, and requests with the whole deadline before them: the coordinator's reserve is enough.
    channel = scenario.channel.model_dump() | {"link": {"kind": "constant", "rate_bps": 1e7}}
    changes = {"faults": [fault], "channel": channel}
    hurt = Scenario.model_validate(scenario.model_dump() | changes)
    found = _run(hurt, "profile", "server", patience_s=10.0, parallel=True)
    lost = found["degraded"]  # an answer that did not reach the device is none of a quorum
    assert lost.any()
    assert np.isnan(found["server_s"][lost]).all()
    assert not (found["votes"][lost] | found["asked"][lost] | found["quorum_macs"][lost]).any()
    inside = (found["start_s"] > 2.1) & (found["done_s"] < 5.9) & (found["start_s"] == found["arrival_s"])
    assert inside.sum() > 10
    assert not found["degraded"][inside].any()
    assert (found["votes"][inside] == 1).all()


def test_losing_the_coordinator_leaves_the_device_to_itself(scenario: Scenario) -> None:
    fault = {"kind": "kill", "at_s": 2.0, "for_s": 3.0}
    hurt = Scenario.model_validate(scenario.model_dump() | {"faults": [fault]})
    found = _run(hurt, "profile", "server")
    inside = (found["start_s"] > 2.0) & (found["start_s"] < 4.9)
    assert inside.any()
    assert found["degraded"][inside].all()
    assert found["local"][inside].all()
    assert len(found["sample"]) == 120


def test_a_quorum_gets_whole_inputs_and_says_so(scenario: Scenario) -> None:
    policy = StaticPolicy(name="few", decision=DecisionConfig(split=2, keep=0.5))
    broken = scenario.model_copy(update={"policies": (policy,)})
    with pytest.raises(ConfigError, match=r"'few': keep 0\.5"):
        Setup(broken)


def test_a_fault_of_no_process_is_refused(scenario: Scenario) -> None:
    fault = {"kind": "kill", "process": "c", "at_s": 1.0, "for_s": 1.0}
    with pytest.raises(ValueError, match="process 'c'"):
        Scenario.model_validate(scenario.model_dump() | {"faults": [fault]})


def test_a_pool_of_other_samples_is_refused(scenario: Scenario, tmp_path: Path) -> None:
    assert scenario.quorum is not None
    from dataclasses import replace

    from splitpoint.errors import DataError
    from splitpoint.models.pool_profile import PoolProfile, pool_path

    pool = PoolProfile.load(pool_path(scenario.quorum.pool, "evaluation"))
    replace(pool, labels=(pool.labels + 1) % 10).save(tmp_path / "pool.evaluation.npz")
    quorum = scenario.quorum.model_copy(update={"pool": str(tmp_path)})
    with pytest.raises(DataError, match="other samples"):
        _ = Setup(scenario.model_copy(update={"quorum": quorum})).evaluation
