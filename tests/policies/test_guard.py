"""Policies that raise, answer nonsense or take too long do no harm, in virtual time and in the device's session."""

from __future__ import annotations

import gc
import math
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from splitpoint.device.agent import Agent
from splitpoint.device.session import Session
from splitpoint.models.card import read_card
from splitpoint.models.store import resolve
from splitpoint.policies.decision import Decision
from splitpoint.policies.guard import GuardedPolicy
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome
from splitpoint.policies.rules import Power
from splitpoint.sim.command import RunOptions, run_command
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.metrics import summarise
from splitpoint.sim.policy_config import CustomPolicy
from splitpoint.sim.report_headline import headline
from splitpoint.sim.scenario import BUILT_IN, load_scenario
from splitpoint.sim.setup import Setup

CARD = read_card(resolve("clutter"))
GOOD = Observation(15.0, 5e6, 1.0, 0.01, 0, 0.0, math.inf, 0.3, True)
LOCAL = Outcome(Decision(6), 6, False, False, False, 1.0, 0.1, 0.1, 0.0, 0)
SAFE = Decision(6)
LIMIT_S = 0.15


class Bad:
    """Every third request is bad, in a way of its own; the others are decided well."""

    def __init__(self, way: str, every: int = 3) -> None:
        self.way, self.every, self.asked = way, every, 0

    def decide(self, observation: Observation) -> Any:
        self.asked += 1
        if self.asked % self.every:
            return Decision(2, 0.25, 48, 4, exit_margin=0.9)
        match self.way:
            case "raises":
                raise RuntimeError("no idea")
            case "exits":
                raise SystemExit(3)
            case "nan":
                return math.nan
            case "nan field":
                return Decision(1, math.nan)
            case "illegal":
                return Decision(7)
        time.sleep(2 * LIMIT_S)
        return SAFE

    def learn(self, outcome: Outcome) -> None:
        raise ValueError("cannot learn")

    def reset(self, seed: int) -> None:
        self.asked = 0


WAYS = ["raises", "exits", "nan", "nan field", "illegal", "slow"]


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_bad_decision_is_replaced_for_its_request_only(way: str, watched: bool) -> None:
    guarded = GuardedPolicy(Bad(way), CARD, SAFE, limit_s=LIMIT_S, watched=watched)
    guarded.reset(0)
    found = []
    for _ in range(6):
        found.append((guarded.decide(GOOD).split, guarded.replaced_last))
        guarded.learn(LOCAL)
        if watched and way == "slow" and guarded.replaced_last:
            # The call that took too long is let come back.
            time.sleep(2 * LIMIT_S)
    assert found == [(2, False), (2, False), (6, True)] * 2
    assert guarded.replaced == 2
    assert guarded.last_error


def test_a_policy_that_never_returns_costs_its_limit_once() -> None:
    class Endless(Bad):
        def decide(self, observation: Observation) -> Any:
            time.sleep(3600)

    guarded = GuardedPolicy(Endless("slow"), CARD, SAFE, limit_s=0.05, watched=True)
    begun_s = time.perf_counter()
    assert all(guarded.decide(GOOD) is SAFE for _ in range(50))
    guarded.learn(LOCAL)
    assert time.perf_counter() - begun_s < 1.0
    assert guarded.replaced == 50
    assert "0.05 s" in guarded.last_error


def test_a_policy_that_cannot_be_reset_does_not_decide_until_it_can() -> None:
    class Unready(Bad):
        def reset(self, seed: int) -> None:
            if seed == 0:
                raise RuntimeError("not today")

    guarded = GuardedPolicy(Unready("raises"), CARD, SAFE)
    guarded.reset(0)
    assert guarded.decide(GOOD) is SAFE
    guarded.reset(1)
    assert guarded.decide(GOOD).split == 2


@pytest.mark.parametrize("way", WAYS)
def test_the_devices_session_answers_and_says_which_requests_were_replaced(way: str) -> None:
    policy = GuardedPolicy(Bad(way, every=2), CARD, SAFE, limit_s=LIMIT_S)
    agent = Agent((2, 4, 6), (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06), 0.01)
    power = Power(1.0, 1.0, 1.0, 0.1)
    session = Session(agent, policy, power, deadline_s=0.3, coherence_s=0.5, battery_j=math.inf)
    replaced = []
    for request in range(4):
        generator = session.begin(float(request), float(request), 0)
        result: Any = None
        try:
            while True:
                effect = generator.send(result)
                # No exit is sure, and no reply comes: the fallback or the last exit answers.
                now_s = request + 0.01
                result = (now_s, None) if not hasattr(effect, "stop") else (now_s, _reading(effect.stop))
        except StopIteration as stopped:
            finished = session.finish(stopped.value)
        assert finished.answer.local
        replaced.append(finished.policy_replaced)
    assert replaced == [False, True, False, True]


def _reading(stop: int) -> Any:
    from splitpoint.device.effects import Reading

    return Reading(0, 0.1, stop // 2 - 1) if stop % 2 == 0 else None


@pytest.mark.parametrize("way", ["raises", "nan", "illegal", "slow"])
def test_virtual_time_counts_and_reports_what_was_replaced(way: str, tmp_path: Path) -> None:
    """A user's own file in a scenario: the run ends, every request is answered, and the report says so."""
    path = tmp_path / "bad.py"
    path.write_text(
        "import math, time\n"
        "from splitpoint.policies.decision import Decision\n"
        "class Policy:\n"
        "    def __init__(self, deployment, profile, way):\n"
        "        self.way, self.asked = way, 0\n"
        "    def decide(self, observation):\n"
        "        self.asked += 1\n"
        "        if self.asked % 4:\n"
        "            return Decision(2, 0.25, 48, 4, exit_margin=0.9)\n"
        "        if self.way == 'slow' and self.asked == 4:\n"
        "            time.sleep(0.4)\n"
        "        if self.way in ('raises', 'slow'):\n"
        "            raise RuntimeError('no idea')\n"
        "        return math.nan if self.way == 'nan' else Decision(7)\n"
        "    def learn(self, outcome):\n"
        "        pass\n"
        "    def reset(self, seed):\n"
        "        self.asked = 0\n",
        encoding="utf-8",
    )
    scenario = load_scenario("quickstart", {"requests": 40})
    config = CustomPolicy(name="own", path=path, factory="Policy", options={"way": way})
    columns = VirtualEngine(Setup(scenario), "profile").run(config)
    summary = summarise("own", "profile", 40, columns, scenario.weights())
    assert summary["answered"] == 40
    # Ten requests a device: the fourth and the eighth are bad, and whatever waits for a slow one's return.
    assert summary["policy_replaced"] == 8 if way != "slow" else summary["policy_replaced"] >= 8
    assert (columns["split"][columns["policy_replaced"]] == 6).all()
    assert any("own" in sentence and "failed to decide" in sentence for sentence in headline([summary]))


def test_a_policy_that_stays_broken_costs_no_memory() -> None:
    class Unready(Bad):
        def reset(self, seed: int) -> None:
            raise RuntimeError("not today")

    guarded = GuardedPolicy(Unready("raises"), CARD, SAFE)
    guarded.reset(0)

    def blocks() -> int:
        gc.collect()
        for _ in range(1000):
            guarded.decide(GOOD)
        return sys.getallocatedblocks()

    assert blocks() + 500 > blocks()
    assert "not today" in guarded.last_error


def test_what_a_policy_fails_at_is_told_once_a_reset_in_one_line() -> None:
    class Fails(Bad):
        def decide(self, observation: Observation) -> Any:
            raise ValueError("first\nsecond")

    told: list[str] = []
    guarded = GuardedPolicy(Fails("raises"), CARD, SAFE, told=told.append)
    for _ in range(2):
        guarded.reset(0)
        for _ in range(3):
            guarded.decide(GOOD)
            guarded.learn(LOCAL)
    assert told == 2 * ["failed to decide, a fixed Decision stands in: ValueError: first second"]


def test_of_a_policy_that_cannot_learn_it_is_not_said_that_its_decisions_are_replaced() -> None:
    class Fails(Bad):
        def learn(self, outcome: Outcome) -> None:
            raise ValueError("no")

    told: list[str] = []
    guarded = GuardedPolicy(Fails("raises"), CARD, SAFE, told=told.append)
    guarded.reset(0)
    guarded.decide(GOOD)
    assert not guarded.replaced_last
    guarded.learn(LOCAL)
    assert told == ["failed to learn: ValueError: no"]


def test_a_run_says_why_a_policy_of_ones_own_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for its four devices; a class that forgot `reset` is told too."""
    path = tmp_path / "forgot.py"
    path.write_text("class Policy:\n    def __init__(self, deployment, profile):\n        pass\n")
    own = {"kind": "custom", "name": "own", "path": str(path), "factory": "Policy"}
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(
        yaml.safe_dump(yaml.safe_load((BUILT_IN / "quickstart.yaml").read_text()) | {"policies": [own]})
    )
    run_command(
        RunOptions(str(scenario), "profile", (), 8, None, tmp_path / "out", None, None, "auto", False)
    )
    said = [record.getMessage() for record in caplog.records]
    why = "AttributeError: 'Policy' object has no attribute 'reset'"
    assert said == [f"policy 'own' failed to reset, a fixed Decision stands in: {why}"]
    assert "“own” failed to decide on 8 requests" in capsys.readouterr().err
