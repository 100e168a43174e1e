"""A board's own modem: what the caller reads off it, as the session takes it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from ..channel.report import Measurement, Modem, Reading
from ..policies.aside import Aside, NotBack

__all__ = ["ReadModem", "own_modem"]

logger = logging.getLogger(__name__)

ReadModem = Callable[[], tuple[float, float] | None]
"""(SNR in dB, NaN where it is not known; rate in bit/s) as measured now; None where nothing is heard."""


def own_modem(read: ReadModem, patience_s: float) -> Modem:
    """Asks `read` at every request, on a thread of its own: somebody else's code must not cost an answer.

    What takes longer than `patience_s` counts at the next request after it has come, as of when it was asked, unless
    there is a newer one by then; until it comes, nothing is measured and nobody waits. What raises or is no reading
    counts as not measured. Each of the two is said once.
    """
    aside = Aside()
    said: set[str] = set()
    asked_s = 0.0

    def say(kind: str, why: str) -> None:
        if kind not in said:
            said.add(kind)
            logger.warning("the modem cannot be read: %s", why)

    def newest(now_s: float) -> Measurement | None:
        nonlocal asked_s
        known_s, found = asked_s, None
        late = aside.busy
        try:
            if late:
                found = _came(aside, 0.0)
        except NotBack:
            return None
        asked_s = now_s
        aside.start(read)
        try:
            known_s, found = now_s, _came(aside, patience_s)
        except NotBack:
            say("slow", f"it takes more than {patience_s:g} s")
            if not late:
                return None
        try:
            return Measurement(known_s, _reading(found))
        except Exception as error:
            say("broken", f"{type(error).__name__}: {error}")
            return None

    return newest


def _came(aside: Aside, limit_s: float) -> Any:
    """What the call gave or raised."""
    try:
        return aside.result(limit_s)
    except NotBack:
        raise
    except Exception as error:
        return error


def _reading(found: Any) -> Reading | None:
    """What `read` gave. Raises what it raised, and ValueError for what is no reading."""
    if isinstance(found, Exception):
        raise found
    if found is None:
        return None
    snr_db, rate_bps = (float(value) for value in found)
    if not 0.0 < rate_bps < math.inf or math.isinf(snr_db):
        raise ValueError(f"it says {snr_db:g} dB and {rate_bps:g} bit/s")
    return Reading(snr_db, rate_bps)
