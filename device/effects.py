"""What the agent asks of its driver, and what it is told back."""

from __future__ import annotations

from typing import NamedTuple

from ..policies.decision import Decision

__all__ = [
    "Answer",
    "BatchEffect",
    "Effect",
    "Offload",
    "OffloadBatch",
    "Reading",
    "Refine",
    "Reply",
    "RunBatch",
    "RunBlocks",
    "local_answer",
    "remote_answer",
]

# With a tuple of all fields: several times cheaper than a NamedTuple's constructor.
_new = tuple.__new__


class Reading(NamedTuple):
    """What an exit says: its class, its margin in [0, 1], its index among the network's exits."""

    prediction: int
    margin: float
    exit: int


class RunBlocks(NamedTuple):
    """Execute blocks start..stop-1 (and embed before block 0); `keep` is the Decision's, for networks with gates.

    Sent back: (time, Reading of the exit after block `stop`, or None where none stands).
    """

    start: int
    stop: int
    keep: float = 1.0


class Offload(NamedTuple):
    """Encode the state at the cut, send it, and wait for the reply until `answer_by_s`.

    Sent back: (time, Reply, or None where none came in time or the link is down).
    """

    cut: int
    decision: Decision
    answer_by_s: float


class Reply(NamedTuple):
    """The server's answer; `session` is not 0 where it is not sure and holds the request until more comes."""

    prediction: int
    margin: float
    exit: int
    session: int = 0


class Refine(NamedTuple):
    """Send what takes the request from the cut to `decision.refine_bits` or `refine_keep`, and wait for the next reply.

    Sent back: as for Offload.
    """

    cut: int
    decision: Decision
    answer_by_s: float
    session: int


class RunBatch(NamedTuple):
    """Execute blocks start..stop-1 for some requests of a batch, one after the other.

    Sent back: (time, for each member the Reading of the exit after block `stop`, or None where none stands).
    """

    start: int
    stop: int
    keep: float
    members: tuple[int, ...]


class OffloadBatch(NamedTuple):
    """Merge the members' states at the cut, send them as one request, and wait for the reply until `answer_by_s`.

    Sent back: (time, a Reply for each member, or None where none came in time or the link is down).
    """

    cut: int
    decision: Decision
    answer_by_s: float
    members: tuple[int, ...]


Effect = RunBlocks | Offload | Refine
BatchEffect = RunBatch | OffloadBatch


class Answer(NamedTuple):
    """How one request ended.

    cut is the number of blocks that the device had executed; offloaded says whether a request was sent, refined
    whether more of it was sent on demand, degraded whether the fallback answered instead of the rule or the server:
    the best exit so far, which is the server's first answer where only the refinement was lost.
    """

    decision: Decision
    prediction: int
    margin: float
    exit: int
    cut: int
    offloaded: bool
    local: bool
    degraded: bool
    done_s: float
    refined: bool = False


def remote_answer(
    decision: Decision, reply: Reply, cut: int, now_s: float, refined: bool = False, degraded: bool = False
) -> Answer:
    """The server's answer to what was sent from `cut`."""
    prediction, margin, exit, _ = reply
    return _new(Answer, (decision, prediction, margin, exit, cut, True, False, degraded, now_s, refined))


def local_answer(
    decision: Decision,
    reading: Reading,
    cut: int,
    now_s: float,
    offloaded: bool = False,
    degraded: bool = False,
) -> Answer:
    """What an exit on the device said."""
    prediction, margin, exit = reading
    return _new(Answer, (decision, prediction, margin, exit, cut, offloaded, True, degraded, now_s, False))
