"""Somebody else's code on a thread of its own, so that a call which never returns cannot stop its device."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["Aside", "NotBack"]

_Calls = SimpleQueue[Callable[[], Any] | None]
_Results = SimpleQueue[tuple[Any, Exception | None]]


class NotBack(Exception):  # noqa: N818 - reads as what happened
    """The call has not returned yet."""


class Aside:
    """One call at a time, on another thread, which ends once nobody holds the Aside any more.

    busy   a call was started, and what came of it has not been fetched
    """

    def __init__(self) -> None:
        self._calls: _Calls = SimpleQueue()
        self._results: _Results = SimpleQueue()
        self.busy = False
        # The threads of calls that never return must not keep the process alive.
        threading.Thread(target=_work, args=(self._calls, self._results), daemon=True).start()
        weakref.finalize(self, self._calls.put, None)

    def start(self, call: Callable[[], Any]) -> None:
        """Begin a call; none may be out."""
        assert not self.busy
        self.busy = True
        self._calls.put(call)

    def result(self, limit_s: float = 0.0) -> Any:
        """What the call gave; raises what it raised, and NotBack where it takes `limit_s` more seconds or longer.

        SystemExit, CancelledError and the like were meant for the thread: raised as a RuntimeError of their name.
        """
        try:
            if limit_s > 0.0:
                result, error = self._results.get(timeout=min(limit_s, threading.TIMEOUT_MAX))
            else:
                result, error = self._results.get_nowait()
        except Empty:
            raise NotBack from None
        self.busy = False
        if error is not None:
            raise error
        return result


def _work(calls: _Calls, results: _Results) -> None:
    while (call := calls.get()) is not None:
        try:
            results.put((call(), None))
        except Exception as error:
            results.put((None, error))
        except BaseException as error:
            results.put((None, RuntimeError(type(error).__name__)))
        # It may hold the Aside, which lives no longer than its last holder.
        del call
