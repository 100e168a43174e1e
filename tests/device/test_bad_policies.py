"""Bad policies on a device with a real server: each request has the safe default, in time, and says so."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from splitpoint.device.client import Client
from splitpoint.policies.decision import Decision
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome

from .conftest import Server, Small

DEADLINE_S = 1.0
GOOD = Decision(2, bits=4)


def fails(_: Observation) -> Any:
    raise ZeroDivisionError


def hangs(_: Observation) -> Any:
    threading.Event().wait()


def dawdles(_: Observation) -> Any:
    time.sleep(0.6 * DEADLINE_S)
    return GOOD


class Bad:
    """Decides by `decide` the first time, and chokes on every outcome."""

    def __init__(self, decide: Callable[[Observation], Any]) -> None:
        self._decide, self._asked = decide, 0

    def decide(self, observation: Observation) -> Any:
        self._asked += 1
        return self._decide(observation) if self._asked == 1 else GOOD

    def learn(self, outcome: Outcome) -> None:
        raise ZeroDivisionError

    def reset(self, seed: int) -> None:
        pass


@pytest.mark.parametrize(
    ("decide", "comes_back"),
    [
        (fails, True),
        (lambda _: None, True),
        (lambda _: math.nan, True),
        (lambda _: Decision(99), True),
        (dawdles, True),
        (hangs, False),
    ],
    ids=["raises", "nothing", "nan", "illegal", "slow", "endless"],
)
def test_a_bad_policy_is_replaced_and_costs_no_answer(
    server: Server,
    small: Small,
    decide: Callable[[Observation], Any],
    comes_back: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Client(server.address, small.folder, policy=Bad(decide), deadline_s=DEADLINE_S) as client:
        first, second = (client.infer(small.image(seed)) for seed in range(2))
        if decide is dawdles:
            # The call that took too long is let come back.
            time.sleep(0.2 * DEADLINE_S)
            second = client.infer(small.image(1))
    assert first.policy_replaced
    assert [
        r.message
        for r in caplog.records
        if r.message.startswith("the policy failed to decide, a fixed Decision stands in: ")
    ]
    assert first.decision == Decision(small.card.depth)
    assert not first.late
    assert second.policy_replaced is not comes_back
    assert second.decision == (GOOD if comes_back else Decision(small.card.depth))
    assert not second.late
