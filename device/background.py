"""One event loop on a thread of its own, shared by the Clients of a process: grpc.aio is at its best with one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Background"]

T = TypeVar("T")


class Background:
    """A share in the loop: it runs while anybody holds one."""

    _lock = threading.Lock()
    _holders = 0
    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread

    def __init__(self) -> None:
        shared = Background
        with shared._lock:
            if shared._holders == 0:
                shared._loop = asyncio.new_event_loop()
                shared._thread = threading.Thread(
                    target=_run, args=(shared._loop,), name="splitpoint-client", daemon=True
                )
                shared._thread.start()
            shared._holders += 1
        self._released = False

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` on the loop; ask the future for its result from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, Background._loop)

    def release(self) -> None:
        """Give the share back; the last one ends the thread."""
        shared = Background
        with shared._lock:
            if self._released:
                return
            self._released = True
            shared._holders -= 1
            if shared._holders == 0:
                shared._loop.call_soon_threadsafe(shared._loop.stop)
                shared._thread.join()
                shared._loop.close()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Until it is stopped; then what ended calls have left behind is ended too."""
    loop.run_forever()
    loop.run_until_complete(_end())


async def _end() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
