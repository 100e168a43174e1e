"""What every policy is: decide, learn, reset."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .decision import Decision
from .observation import Observation

__all__ = ["Outcome", "Policy"]


class Outcome(NamedTuple):
    """What the device knows of a request once it is answered; no label.

    decision      what the policy had decided
    cut           blocks that the device had executed when it answered or sent
    offloaded     whether a request was sent
    degraded      whether the fallback answered
    late          whether the answer came after the deadline
    margin        of the exit that answered
    latency_s, energy_j, airtime_s, uplink_bytes   the realised costs
    """

    decision: Decision
    cut: int
    offloaded: bool
    degraded: bool
    late: bool
    margin: float
    latency_s: float
    energy_j: float
    airtime_s: float
    uplink_bytes: int


class Policy(Protocol):
    """Decides input by input. One instance serves one device."""

    def decide(self, observation: Observation) -> Decision:
        """The Decision for the request whose turn has come."""

    def learn(self, outcome: Outcome) -> None:
        """Told once for every answered request, in order."""

    def reset(self, seed: int) -> None:
        """Forget everything learned; equal seeds give equal behaviour."""
