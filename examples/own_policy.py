"""A policy of one's own: sends when the link is good, stays on the device when it is not, and learns where that lies.

    policies:
      - {kind: custom, name: mine, path: examples/own_policy.py, factory: Threshold, options: {start_bps: 1.0e+6}}

A policy sees estimates (`Observation`) and what its requests came to (`Outcome`), never a label nor the true channel.
"""

from __future__ import annotations

from splitpoint.models.profile import Profile
from splitpoint.policies.decision import Decision
from splitpoint.policies.deployment import Deployment
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome


class Threshold:
    """Raw inputs above a rate, the first exit on the device below it; the rate moves with every late or early reply."""

    def __init__(self, deployment: Deployment, profile: Profile, start_bps: float = 1e6) -> None:
        self.deadline_s = deployment.weights.deadline_s
        self.send = Decision(0, exit_margin=0.9)
        self.stay = Decision(profile.card.depth, exit_margin=0.5)
        self.start_bps = start_bps
        self.reset(0)

    def decide(self, observation: Observation) -> Decision:
        # NaN, which is "not known yet", is not above anything: try.
        slow = observation.rate_bps < self.threshold_bps
        self.stayed = self.stayed + 1 if slow else 0
        # Who never sends never learns that the link is back.
        if slow and self.stayed % 5 and observation.link_up:
            return self.stay
        return self.send if observation.link_up else self.stay

    def learn(self, outcome: Outcome) -> None:
        if outcome.offloaded:
            self.threshold_bps *= 1.2 if outcome.degraded or outcome.late else 0.97

    def reset(self, seed: int) -> None:
        self.threshold_bps = self.start_bps
        self.stayed = 0
