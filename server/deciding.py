"""Policies for boards that let the server decide: one for each session of a device, on a thread of their own.

DecideRequest ─► checked (policy_service) ─► PolicyDesk ─► thread: learn outcomes, decide, guarded ─► Decision
                                                └ no Decision in time ─► the safe default: all local
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import NamedTuple

from ..models.card import ModelCard
from ..policies.decision import Decision
from ..policies.guard import GuardedPolicy
from ..policies.observation import Observation
from ..policies.policy import Outcome, Policy
from .refusals import queue_full

__all__ = ["MOST_POLICIES", "Decided", "PolicyDesk", "PolicySource"]

MOST_POLICIES = 256
"""Kept at once; one more takes the place of the one that was not asked for longest."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PolicySource:
    """Where a server's policies come from.

    name  of the policy, as Describe tells it
    card  of the network that the Decisions are for
    make  a fresh policy for a device of this name, whatever it is; called on the desk's thread
    seed  what fresh policies are reset with
    """

    name: str
    card: ModelCard
    make: Callable[[str], Policy]
    seed: int = 0


class Decided(NamedTuple):
    """decision is None where none was asked for; replaced: it is the safe default, for the policy failed;
    outcomes: how many of the session have been told."""

    decision: Decision | None
    replaced: bool
    outcomes: int


class _Kept:
    """One session's policy, and how many outcomes it has been told."""

    def __init__(self, policy: GuardedPolicy) -> None:
        self.policy = policy
        self.told = 0

    def learn(self, outcomes: Sequence[Outcome], first: int) -> None:
        for outcome in outcomes[max(0, self.told - first) :]:
            self.policy.learn(outcome)
        self.told = max(self.told, first + len(outcomes))


class _Job(NamedTuple):
    device: str
    session: str
    outcomes: Sequence[Outcome]
    first: int
    observation: Observation | None
    future: asyncio.Future[Decided]


class PolicyDesk:
    """Make and use it on one event loop. Every policy is called on one thread, never from two at once.

    most         policies kept
    limit_s      longest wait for a Decision; a policy that hangs costs all devices theirs, but not their answers
    max_pending  questions waiting or in work; one more is refused
    """

    def __init__(
        self,
        source: PolicySource,
        *,
        most: int = MOST_POLICIES,
        limit_s: float = 1.0,
        max_pending: int = 256,
    ) -> None:
        self.source = source
        self._safe = Decision(source.card.depth)
        self._most, self._limit_s, self._max_pending = most, limit_s, max_pending
        self._pending = 0
        self._crowded = False
        self._policies: dict[tuple[str, str], _Kept] = {}
        self._loop = asyncio.get_running_loop()
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        # A policy that never returns must not keep the process alive.
        threading.Thread(target=self._work, name="policies", daemon=True).start()

    async def tell(
        self,
        device: str,
        session: str,
        outcomes: Sequence[Outcome],
        first: int,
        observation: Observation | None = None,
    ) -> Decided:
        """Have the session's policy learn the outcomes that it has not heard yet, and decide where there is an
        observation. Raises Rejected (RESOURCE_EXHAUSTED) where too many wait.

        first  how many outcomes of the session came before these
        """
        if self._pending >= self._max_pending:
            raise queue_full(self._pending, "questions")
        self._pending += 1
        future: asyncio.Future[Decided] = self._loop.create_future()
        self._inbox.put(_Job(device, session, outcomes, first, observation, future))
        try:
            return await asyncio.wait_for(future, self._limit_s)
        except TimeoutError:
            logger.warning("policy %s: no answer within %.3g s", self.source.name, self._limit_s)
            return Decided(self._safe, True, first + len(outcomes))

    def close(self) -> None:
        """End the thread, after what is in work."""
        self._inbox.put(None)

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None:
            try:
                found = self._answer(job)
            except BaseException as error:
                logger.warning("policy %s: %s: %s", self.source.name, type(error).__name__, error)
                found = Decided(self._safe, True, job.first + len(job.outcomes))
            # The loop may have ended meanwhile.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._settle, job.future, found)

    def _settle(self, future: asyncio.Future[Decided], found: Decided) -> None:
        self._pending -= 1
        if not future.done():
            future.set_result(found)

    def _answer(self, job: _Job) -> Decided:
        key = job.device, job.session
        kept = self._policies.pop(key, None) or self._fresh(job.device)
        self._policies[key] = kept
        if len(self._policies) > self._most:
            del self._policies[next(iter(self._policies))]
            # Once: a crowd would write a line a question.
            if not self._crowded:
                self._crowded = True
                logger.warning(
                    "policy %s: more than %d sessions; the one that was not asked for longest is forgotten each time",
                    self.source.name, self._most,
                )  # fmt: skip
        # Who no longer waits is told by its silence; what it told is learned all the same.
        before = kept.policy.last_error
        kept.learn(job.outcomes, job.first)
        if kept.policy.last_error != before:
            logger.warning("policy %s: learning: %s", self.source.name, kept.policy.last_error)
        if job.observation is None or job.future.done():
            return Decided(None, False, kept.told)
        decision = kept.policy.decide(job.observation)
        if kept.policy.replaced_last:
            logger.warning("policy %s: %s", self.source.name, kept.policy.last_error)
        return Decided(decision, kept.policy.replaced_last, kept.told)

    def _fresh(self, device: str) -> _Kept:
        card = self.source.card
        policy = GuardedPolicy(self.source.make(device), card, self._safe)
        policy.reset(self.source.seed)
        return _Kept(policy)
