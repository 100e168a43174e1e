"""A policy that is waited for so long and no longer."""

from __future__ import annotations

from typing import Any

from .aside import Aside, NotBack
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
        self._aside = Aside()

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
        self._aside.start(lambda: getattr(self._policy, name)(argument))
        try:
            return self._aside.result(self._limit_s)
        except NotBack:
            raise TooLong(self._limit_s) from None

    def _is_back(self) -> bool:
        """Whether the last call has returned; a result that came too late is thrown away."""
        if self._aside.busy:
            try:
                self._aside.result()
            except NotBack:
                return False
            except Exception:  # too late as well
                pass
        return True
