"""What is left to do when a gRPC server has ended and its event loop is about to."""

from __future__ import annotations

import asyncio

__all__ = ["last_calls"]

_LAST_S = 0.5


async def last_calls() -> None:
    """Wait a moment for gRPC's own tasks.

    Those of calls that were cut off, a health watcher's say, are told so a moment later. Whom the end of the loop
    cancels before that leaves a traceback.
    """
    if left := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(left, timeout=_LAST_S)
