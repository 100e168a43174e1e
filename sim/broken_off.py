"""Runs that are broken off, by Ctrl-C or SIGTERM: nothing of them may be left, neither tasks nor processes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

__all__ = ["run_whole", "sigterm_unwinds"]

_T = TypeVar("_T")


def run_whole(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The coroutine's result. Where it raises, or is broken off, what it has begun is cancelled and waited for."""
    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    except BaseException:
        left = asyncio.all_tasks(loop)
        for one in left:
            one.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        raise


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Within, SIGTERM raises SystemExit, so that processes are ended on the way out; by itself it would orphan them."""
    if threading.current_thread() is not threading.main_thread():  # only there signals can be caught
        yield
        return
    before = signal.signal(signal.SIGTERM, _unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _unwind(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
