"""A bad policy does no harm: its Decision is replaced by a safe one, counted and reported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ..models.card import ModelCard
from .decision import Decision
from .observation import Observation
from .policy import Outcome, Policy
from .watched import TooLong, Watched

__all__ = ["GuardedPolicy"]

_INSTEAD = "a fixed Decision stands in"


class GuardedPolicy:
    """Wraps a policy; where it raises, answers anything but a Decision that fits, or takes too long, `safe` stands in.

    card         of the network
    safe         what to do instead, all local, say
    limit_s      longest time to decide, by the clock on the wall; infinite for none
    watched      decide on a thread of its own, so that even a policy that never returns costs `limit_s` once and then
                 nothing; it costs tens of microseconds a request
    learns       False for a policy that says (`learns = False`) that outcomes do not interest it
    told         is told once after each reset, in one line, what the policy failed at first, and why
    `replaced` counts the replacements, `replaced_last` tells of the newest request, `last_error` says why.
    """

    def __init__(
        self,
        policy: Policy,
        card: ModelCard,
        safe: Decision,
        limit_s: float = math.inf,
        *,
        watched: bool = False,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self._policy: Policy = Watched(policy, limit_s) if watched else policy
        self.learns: bool = getattr(policy, "learns", True)
        self._card = card
        self._safe = safe
        self._limit_s = limit_s
        self._timed = limit_s < math.inf
        self._checked: object = safe
        self._broken: BaseException | None = None
        self._told = told
        self.replaced = 0
        self.replaced_last = False
        self.last_error = ""

    def decide(self, observation: Observation) -> Decision:
        self.replaced_last = False
        if self._broken is not None:
            return self._replace(self._broken)
        begun_s = time.perf_counter() if self._timed else 0.0
        try:
            decision = self._policy.decide(observation)
            # The same object again, as static policies give it, need not be checked again.
            if decision is not self._checked:
                if not isinstance(decision, Decision):
                    raise TypeError(f"the policy answered {type(decision).__name__}, not a Decision")
                decision.check(self._card)
                self._checked = decision
            if self._timed and time.perf_counter() - begun_s > self._limit_s:
                raise TooLong(self._limit_s)
        except (Exception, SystemExit) as error:
            return self._replace(error)
        return decision

    def learn(self, outcome: Outcome) -> None:
        try:
            self._policy.learn(outcome)
        except (Exception, SystemExit) as error:
            self._failed("learn", error)

    def reset(self, seed: int) -> None:
        self._broken = None
        self.replaced = 0
        self.replaced_last = False
        self.last_error = ""
        try:
            self._policy.reset(seed)
        except (Exception, SystemExit) as error:
            # In what state it is, nobody knows: it does not decide.
            self._broken = error
            self._failed(f"reset, {_INSTEAD}", error)

    def _replace(self, error: BaseException) -> Decision:
        self.replaced += 1
        self.replaced_last = True
        self._failed(f"decide, {_INSTEAD}", error)
        return self._safe

    def _failed(self, at: str, error: BaseException) -> None:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if self._told is not None and not self.last_error:
            self._told(f"failed to {at}: {said}")
        self.last_error = said
