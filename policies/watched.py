"""A policy on a thread of its own, so that one which never returns cannot stop its device."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Any

from .decision import Decision
from .observation import Observation
from .policy import Outcome, Policy

__all__ = ["TooLong", "Watched"]


class TooLong(Exception):  # noqa: N818 - reads as what happened
    """A policy did not decide within its limit."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no Decision within {limit_s:g} s")


class Watched:
    """Calls a policy on another thread and waits `limit_s` at most for each call.

    After a call that took too long, decide raises TooLong at once, and outcomes are dropped, until it has come back.
    The policy is never called from two threads at once. What it raises is raised here.
    """

    def __init__(self, policy: Policy, limit_s: float) -> None:
        self._policy = policy
        self._limit_s = limit_s
        self._calls: SimpleQueue[tuple[int, str, Any]] = SimpleQueue()
        self._results: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
        self._sent = self._received = 0
        # The threads of policies that never return must not keep the process alive.
        threading.Thread(target=self._work, daemon=True).start()

    def decide(self, observation: Observation) -> Decision:
        decision: Decision = self._call("decide", observation)
        return decision

    def learn(self, outcome: Outcome) -> None:
        if self._is_back():
            self._call("learn", outcome)

    def reset(self, seed: int) -> None:
        self._call("reset", seed)

    def _call(self, name: str, argument: Any) -> Any:
        if not self._is_back():
            raise TooLong(self._limit_s)
        self._sent += 1
        self._calls.put((self._sent, name, argument))
        try:
            self._received, result, error = self._results.get(
                timeout=min(self._limit_s, threading.TIMEOUT_MAX)
            )
        except Empty:
            raise TooLong(self._limit_s) from None
        if error is not None:
            raise error
        return result

    def _is_back(self) -> bool:
        """Whether all calls have returned; results that came too late are thrown away."""
        while not self._results.empty():
            self._received, _, _ = self._results.get()
        return self._received == self._sent

    def _work(self) -> None:
        while True:
            number, name, argument = self._calls.get()
            try:
                self._results.put((number, getattr(self._policy, name)(argument), None))
            except BaseException as error:
                self._results.put((number, None, error))
