"""What the client tells of one image."""

from __future__ import annotations

from dataclasses import dataclass

from ..policies.decision import Decision

__all__ = ["Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one image.

    prediction, class_name   of the exit that answered, `exit` its index among the network's exits
    margin      top probability less the second, in [0, 1]
    local       the device answered, not the server
    degraded    the best exit so far answered although it was not sure: no reply came, or the link was down. It is the
                server's, and `local` False, where only what it had asked for more was lost
    late        after the deadline
    latency_s   from the call, waiting behind other images included
    cut         blocks executed on the device
    uplink_bytes  0 where nothing was sent
    decision    what the policy had decided
    policy_replaced  it raised, decided nothing that fits or not in time: `decision` is the safe one, all local
    """

    prediction: int
    class_name: str
    margin: float
    exit: int
    local: bool
    degraded: bool
    late: bool
    latency_s: float
    cut: int
    uplink_bytes: int
    decision: Decision
    policy_replaced: bool

    @property
    def where(self) -> str:
        """ "local" or "server"."""
        return "local" if self.local else "server"
