"""What the client tells of one image."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.card import ModelCard
from ..policies.decision import Decision
from .session import Finished

__all__ = ["Result", "result_of"]


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


def result_of(finished: Finished, card: ModelCard, deadline_s: float) -> Result:
    """What the session knows of an answered image, for its caller."""
    answer, trip = finished.answer, finished.trip
    latency_s = answer.done_s - finished.arrival_s
    return Result(
        prediction=answer.prediction,
        class_name=card.classes[answer.prediction],
        margin=answer.margin,
        exit=answer.exit,
        local=answer.local,
        degraded=answer.degraded,
        late=latency_s > deadline_s,
        latency_s=latency_s,
        cut=answer.cut,
        uplink_bytes=0 if trip is None else trip.uplink_bytes,
        decision=answer.decision,
        policy_replaced=finished.policy_replaced,
    )
