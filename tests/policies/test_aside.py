"""Somebody else's code on a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from splitpoint.models.card import read_card
from splitpoint.models.store import resolve
from splitpoint.policies.aside import Aside, NotBack
from splitpoint.policies.decision import Decision
from splitpoint.policies.guard import GuardedPolicy
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome

CARD = read_card(resolve("clutter"))
SEEN = Observation(15.0, 5e6, 1.0, 0.01, 0, 0.0, 1.0, 0.3, True)
SAFE = Decision(6)


def ended(threads: set[threading.Thread]) -> bool:
    """Whether all of them end within a second."""
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s and any(thread.is_alive() for thread in threads):
        time.sleep(0.001)
    return not any(thread.is_alive() for thread in threads)


def begun(make: Callable[[], Any]) -> tuple[Any, set[threading.Thread]]:
    """What `make` gives, and the threads that it began."""
    before = set(threading.enumerate())
    made = make()
    return made, set(threading.enumerate()) - before


def test_a_call_that_was_given_up_can_be_fetched_when_it_is_back() -> None:
    go, aside = threading.Event(), Aside()
    aside.start(go.wait)
    with pytest.raises(NotBack):
        aside.result(0.01)
    assert aside.busy
    go.set()
    assert aside.result(1.0) is True
    assert not aside.busy


def test_the_thread_ends_with_its_last_holder() -> None:
    aside, threads = begun(Aside)
    aside.start(lambda: 1)
    assert aside.result(1.0) == 1
    assert len(threads) == 1
    del aside
    assert ended(threads)


class Slow:
    def __init__(self, go: threading.Event) -> None:
        self._go = go

    def decide(self, observation: Observation) -> Decision:
        self._go.wait()
        return SAFE

    def learn(self, outcome: Outcome) -> None:
        pass

    def reset(self, seed: int) -> None:
        pass


def test_a_policy_that_is_given_up_in_the_middle_of_a_call_leaves_no_thread_once_it_is_back() -> None:
    go = threading.Event()
    guarded, threads = begun(lambda: GuardedPolicy(Slow(go), CARD, SAFE, 0.01, watched=True))
    assert guarded.decide(SEEN) is SAFE
    assert guarded.replaced == 1
    del guarded
    gc.collect()
    assert all(thread.is_alive() for thread in threads)
    go.set()
    assert ended(threads)


@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError, GeneratorExit])
def test_what_was_meant_for_the_thread_is_an_error_to_the_caller(kind: type[BaseException]) -> None:
    def stop() -> None:
        raise kind

    aside = Aside()
    aside.start(stop)
    with pytest.raises(RuntimeError, match=kind.__name__):
        aside.result(1.0)
    aside.start(lambda: 2)
    assert aside.result(1.0) == 2
