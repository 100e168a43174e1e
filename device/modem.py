"""A board's own modem: what the caller reads off it, as the session takes it."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from ..channel.report import Measurement, Modem, Reading

__all__ = ["ReadModem", "own_modem"]

logger = logging.getLogger(__name__)

ReadModem = Callable[[], tuple[float, float] | None]
"""(SNR in dB, NaN where it is not known; rate in bit/s) as measured now; None where nothing is heard."""


def own_modem(read: ReadModem, patience_s: float = 0.01) -> Modem:
    """Asks `read` at every request, on a thread of its own: somebody else's code must not cost an answer.

    What takes longer than `patience_s` counts at the next request after it has come, as of when it was asked, unless
    there is a newer one by then; until it comes, nothing is measured and nobody waits. What raises or is no reading
    counts as not measured. Each of the two is said once.
    """
    questions: SimpleQueue[None] = SimpleQueue()
    answers: SimpleQueue[Any] = SimpleQueue()
    said: set[str] = set()
    asked_s: float | None = None

    def work() -> None:
        while True:
            questions.get()
            try:
                answers.put(read())
            except BaseException as error:
                answers.put(error)

    def say(kind: str, why: str) -> None:
        if kind not in said:
            said.add(kind)
            logger.warning("the modem cannot be read: %s", why)

    def newest(now_s: float) -> Measurement | None:
        nonlocal asked_s
        known_s, found = now_s, None
        if asked_s is not None:
            try:
                known_s, found = asked_s, answers.get_nowait()
            except Empty:
                return None
        late, asked_s = asked_s is not None, now_s
        questions.put(None)
        try:
            found = answers.get(timeout=patience_s)
            known_s, asked_s = now_s, None
        except Empty:
            say("slow", f"it takes more than {patience_s:g} s")
            if not late:
                return None
        try:
            return Measurement(known_s, _reading(found))
        except Exception as error:
            say("broken", f"{type(error).__name__}: {error}")
            return None

    # One that never returns must not keep the process alive.
    threading.Thread(target=work, daemon=True, name="modem").start()
    return newest


def _reading(found: Any) -> Reading | None:
    """What `read` gave. Raises what it raised, and ValueError for what is no reading."""
    if isinstance(found, BaseException):
        # SystemExit and the like were meant for the thread that read.
        raise found if isinstance(found, Exception) else RuntimeError(type(found).__name__)
    if found is None:
        return None
    snr_db, rate_bps = (float(value) for value in found)
    if not 0.0 < rate_bps < math.inf or math.isinf(snr_db):
        raise ValueError(f"it says {snr_db:g} dB and {rate_bps:g} bit/s")
    return Reading(snr_db, rate_bps)
