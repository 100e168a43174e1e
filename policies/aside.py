"""Somebody else's code on a thread of its own, so that a call which never returns cannot stop its device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["Aside", "NotBack"]


class NotBack(Exception):  # noqa: N818 - reads as what happened
    """The call has not returned yet."""


class Aside:
    """One call at a time, on another thread.

    busy   a call was started, and what came of it has not been fetched
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self._results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.busy = False
        # The threads of calls that never return must not keep the process alive.
        threading.Thread(target=self._work, daemon=True).start()

    def start(self, call: Callable[[], Any]) -> None:
        """Begin a call; none may be out."""
        assert not self.busy
        self.busy = True
        self._calls.put(call)

    def result(self, limit_s: float = 0.0) -> Any:
        """What the call gave; raises what it raised, and NotBack where it takes `limit_s` more seconds or longer."""
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

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            try:
                self._results.put((call(), None))
            except BaseException as error:
                self._results.put((None, error))
