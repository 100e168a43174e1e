"""Asking learners until they have said enough (SQUAD, arXiv 2601.22711), once for all engines.

`coordinate` yields effects and is sent their results; it does no I/O and reads no clock. The server's driver, the
device library and virtual time run it alike. Opinions are counted in one order, learners that spoke unasked first, then
`order`, however they arrive: the verdict does not depend on who was faster, and asking one after another or all at
once gives the same prediction at the same gate.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .quorum import QuorumRule, Reason, Standing, Verdict, accepts, outcome, standing

__all__ = ["Ask", "Effect", "Event", "Gone", "Opinion", "Wait", "answer_within", "coordinate"]

_RESERVE_S, _RESERVE_PART = 0.01, 0.1


class Ask(NamedTuple):
    """Let a learner run gates first..last and send its opinion at each; does not block; sent back: None."""

    learner: int
    first: int
    last: int


class Wait(NamedTuple):
    """Wait for what comes next; sent back: Opinion, Gone, or None when the deadline has come."""


class Opinion(NamedTuple):
    """What a learner says at a gate: class probabilities (C,) float32, each a float16 value; macs: since its last."""

    learner: int
    gate: int
    probabilities: NDArray[np.float32]
    macs: int


class Gone(NamedTuple):
    """A learner died, hangs or is too late; what it said before counts, what it says later does not."""

    learner: int


Effect = Ask | Wait
Event = Opinion | Gone | None


def answer_within(limit_s: float) -> float:
    """When to answer with what there is, in seconds, for a caller who waits `limit_s`: the rest is the way back's."""
    return limit_s - min(_RESERVE_S, _RESERVE_PART * limit_s)


class _Tally(NamedTuple):
    standing: Standing
    opinions: list[NDArray[np.float32]]
    pending: int | None


class _Votes:
    """What has been said so far, and by whom."""

    def __init__(self, order: Sequence[int], gates: int, early: Sequence[Opinion]) -> None:
        self.early = {opinion.learner: opinion for opinion in early}
        self.order = [learner for learner in dict.fromkeys(order) if learner not in self.early]
        self.gates = gates
        self.said: dict[tuple[int, int], NDArray[np.float32]] = {}
        self.gone: set[int] = set()
        self.asked: dict[int, int] = {}
        self.macs = 0

    def take(self, event: Opinion | Gone) -> None:
        if isinstance(event, Gone):
            self.gone.add(event.learner)
            return
        new = event.learner in self.asked and (event.learner, event.gate) not in self.said
        if new and event.learner not in self.gone:
            self.said[event.learner, event.gate] = event.probabilities
            self.macs += event.macs

    def unasked(self, gate: int) -> list[NDArray[np.float32]]:
        """Opinions that came with the request and count at this gate."""
        return [opinion.probabilities for opinion in self.early.values() if opinion.gate <= gate]

    def tally(self, gate: int) -> _Tally:
        """Opinions in their order, up to the one that settles the gate or the first that is missing."""
        here = self.unasked(gate)
        voters = [x for x in self.order if (x, gate) in self.said or x not in self.gone]
        alive = len(here) + len(voters)
        opinions: list[NDArray[np.float32]] = []
        votes: list[int] = []
        # None stands for opinions that are here already.
        line: list[tuple[int | None, NDArray[np.float32] | None]] = [(None, opinion) for opinion in here]
        line += [(learner, self.said.get((learner, gate))) for learner in voters]
        for learner, opinion in line:
            if opinion is None:
                return _Tally("open", opinions, learner)
            opinions.append(opinion)
            votes.append(int(opinion.argmax()))
            now = standing(votes, alive)
            if now != "open":
                return _Tally(now, opinions, None)
        return _Tally(standing(votes, alive), opinions, None)

    def silent(self, gate: int) -> bool:
        """Whether nobody has an opinion of this very gate, or can still give one."""
        own = any(opinion.gate == gate for opinion in self.early.values())
        return not own and all(x in self.gone and (x, gate) not in self.said for x in self.order)

    def at_hand(self, reason: Reason) -> Verdict | None:
        """The verdict of the deepest gate that anybody spoke at; None if nobody did."""
        gates = [gate for _, gate in self.said] + [opinion.gate for opinion in self.early.values()]
        if not gates:
            return None
        gate = max(gates)
        said = [self.said[x, gate] for x in self.order if (x, gate) in self.said]
        return self.verdict(gate, self.unasked(gate) + said, reason)

    def verdict(self, gate: int, opinions: list[NDArray[np.float32]], reason: Reason) -> Verdict:
        prediction, margin = outcome(np.stack(opinions))
        asked = len(self.asked) + len(self.early)
        return Verdict(prediction, margin, gate, len(opinions), asked, reason, self.macs)


def coordinate(
    rule: QuorumRule,
    order: Sequence[int],
    gates: int,
    *,
    parallel: bool,
    early: Sequence[Opinion] = (),
) -> Generator[Effect, Event, Verdict | None]:
    """Ask learners until a quorum is accepted, the last gate is settled, or the deadline comes.

    order     learners in the order in which they are asked and counted
    gates     how many aligned gates they have; opinions have gates 0..gates-1
    parallel  ask all learners for all gates at once; else one learner, up to one gate, at a time
    early     opinions that came with the request: they count at their gate and later ones, their learners are not
              asked, and have no vote at earlier gates

    A gate is left without a verdict once no majority can stand, or once a quorum is not accepted. Returns None if
    nobody ever gave an opinion. What is still outstanding on return is the driver's to cancel.
    """
    votes = _Votes(order, gates, early)
    if parallel:
        for learner in votes.order:
            votes.asked[learner] = gates
            yield Ask(learner, 0, gates - 1)
    for gate in range(gates):
        if votes.silent(gate):
            continue
        tally = votes.tally(gate)
        while tally.standing == "open":
            missing = tally.pending
            if missing is not None and votes.asked.get(missing, 0) <= gate:
                first = votes.asked.get(missing, 0)
                votes.asked[missing] = gate + 1
                yield Ask(missing, first, gate)
            event = yield Wait()
            if event is None:
                return votes.at_hand("deadline")
            votes.take(event)
            tally = votes.tally(gate)
        if votes.silent(gate):
            continue
        if tally.standing == "quorum" and accepts(rule, np.stack(tally.opinions)):
            return votes.verdict(gate, tally.opinions, "quorum")
        if gate == gates - 1:
            return votes.verdict(gate, tally.opinions, "last")
    return votes.at_hand("shrunk")
