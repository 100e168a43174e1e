"""Real time for `coordination`: asks several learners at once on an asyncio loop, whatever carries the questions.

    coordinate ─ Ask ─► a task: async for opinion in ask(...) ─► inbox ─ Wait ─► coordinate ─► Verdict
                         └ silent for patience_s, or failed: Gone ──┘             └ what is outstanding is cancelled

Knows no gRPC: `ask` may call a server, a compute thread in this process, or a test's script.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator

from .coordination import Ask, Effect, Event, Gone, Opinion
from .quorum import Verdict

__all__ = ["Silent", "drive"]

_Steps = Generator[Effect, Event, Verdict | None]
_AskLearner = Callable[[int, int, int], AsyncGenerator[Opinion, None]]

_leaving: set[asyncio.Task[None]] = set()
"""Cancelled tasks until they have ended: the loop itself holds tasks weakly."""


class Silent(Exception):  # noqa: N818 - reads as what happened
    """A learner gave no opinion for as long as it is waited for."""


async def drive(
    steps: _Steps,
    ask: _AskLearner,
    *,
    until_s: float,
    patience_s: float,
    lost: Callable[[int, Exception], None] = lambda learner, error: None,
) -> Verdict | None:
    """The verdict of a `coordinate` generator, by `until_s` (of the loop's clock) at the latest.

    ask         ask(learner, first, last): the opinions of these gates, in order. Closed where they are no longer
                wanted; that must stop the work
    patience_s  longest silence of one learner before each opinion
    lost        told of a learner that is gone, and why: `Silent`, or what `ask` raised. A silence that the deadline
                cut short tells nothing about the learner, and is not reported
    """
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Opinion | Gone] = asyncio.Queue()
    tasks: list[asyncio.Task[None]] = []

    async def listen(learner: int, first: int, last: int) -> None:
        opinions = ask(learner, first, last)
        try:
            for _ in range(first, last + 1):
                try:
                    async with asyncio.timeout(patience_s):
                        opinion = await anext(opinions)
                except TimeoutError:
                    raise Silent(f"no opinion within {patience_s:g} s") from None
                inbox.put_nowait(opinion)
        except Exception as error:
            lost(learner, error)
            inbox.put_nowait(Gone(learner))
        finally:
            await opinions.aclose()

    try:
        effect = next(steps)
        while True:
            if isinstance(effect, Ask):
                tasks.append(loop.create_task(listen(*effect)))
                effect = steps.send(None)
            else:
                effect = steps.send(await _next(inbox, until_s - loop.time()))
    except StopIteration as stopped:
        verdict: Verdict | None = stopped.value
        return verdict
    finally:
        steps.close()
        for task in tasks:
            if not task.done():
                _leaving.add(task)
                task.add_done_callback(_leaving.discard)
                task.cancel()


async def _next(inbox: asyncio.Queue[Opinion | Gone], left_s: float) -> Event:
    """The next thing said; None when the time is up. What was said in time counts."""
    if not inbox.empty():
        return inbox.get_nowait()
    if left_s <= 0.0:
        return None
    try:
        async with asyncio.timeout(left_s):
            return await inbox.get()
    except TimeoutError:
        return None
