"""A bad policy does no harm: its Decision is replaced by a safe one, counted and reported."""

from __future__ import annotations

from .decision import Decision
from .observation import Observation
from .policy import Outcome, Policy

__all__ = ["GuardedPolicy"]


class GuardedPolicy:
    """Wraps a policy; where it raises, or answers anything but a Decision that fits, `safe` stands in.

    depth, dim: of the network; safe: what to do instead, all local with the usual exits, say.
    learns: False for a policy that says (`learns = False`) that outcomes do not interest it.
    `replaced` counts the replacements, `replaced_last` tells of the newest request.
    """

    def __init__(self, policy: Policy, depth: int, dim: int, safe: Decision) -> None:
        self._policy = policy
        self.learns: bool = getattr(policy, "learns", True)
        self._depth = depth
        self._dim = dim
        self._safe = safe
        self._checked: object = safe
        self.replaced = 0
        self.replaced_last = False
        self.last_error = ""

    def decide(self, observation: Observation) -> Decision:
        self.replaced_last = False
        try:
            decision = self._policy.decide(observation)
            # The same object again, as static policies give it, need not be checked again.
            if decision is not self._checked:
                if not isinstance(decision, Decision):
                    raise TypeError(f"the policy answered {type(decision).__name__}, not a Decision")
                decision.check(self._depth, self._dim)
                self._checked = decision
        except Exception as error:
            return self._replace(error)
        return decision

    def learn(self, outcome: Outcome) -> None:
        try:
            self._policy.learn(outcome)
        except Exception as error:
            self.last_error = f"{type(error).__name__}: {error}"

    def reset(self, seed: int) -> None:
        self._policy.reset(seed)
        self._checked = self._safe
        self.replaced = 0
        self.replaced_last = False

    def _replace(self, error: Exception) -> Decision:
        self.replaced += 1
        self.replaced_last = True
        self.last_error = f"{type(error).__name__}: {error}"
        return self._safe
