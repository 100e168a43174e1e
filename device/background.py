"""One event loop on a thread of its own, shared by the Clients of a process: grpc.aio is at its best with one."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Background"]

T = TypeVar("T")


class Background:
    """A share in the loop: its thread runs while anybody holds one.

    The loop itself lasts as long as the process: grpc.aio tells a loop how calls ended after they did, and where it is
    closed by then, what others wait for is held up.
    """

    _lock = threading.Lock()
    _holders = 0
    _lasting: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread

    def __init__(self) -> None:
        shared = Background
        with shared._lock:
            if shared._lasting is None:
                shared._lasting = asyncio.new_event_loop()
                atexit.register(_close, shared._lasting)
            self._loop = shared._lasting
            if shared._holders == 0:
                shared._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="splitpoint-client", daemon=True
                )
                shared._thread.start()
            shared._holders += 1
        self._released = False

    @property
    def alone(self) -> bool:
        """Whether nobody else has a share."""
        return Background._holders == 1

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` on the loop; ask the future for its result from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def release(self) -> None:
        """Give the share back; the last one ends the thread."""
        shared = Background
        with shared._lock:
            if self._released:
                return
            self._released = True
            shared._holders -= 1
            if shared._holders == 0:
                self._loop.call_soon_threadsafe(self._loop.stop)
                shared._thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Until it is stopped; then what ended calls have left behind is ended too."""
    loop.run_forever()
    loop.run_until_complete(_end())


async def _end() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """At the end of the process, unless a client was left open."""
    if not loop.is_running():
        loop.close()
