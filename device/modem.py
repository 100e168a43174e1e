"""A board's own modem: what the caller reads off it, as the session takes it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from ..channel.report import Measurement, Modem, Reading

__all__ = ["ReadModem", "own_modem"]

logger = logging.getLogger(__name__)

ReadModem = Callable[[], tuple[float, float] | None]
"""(SNR in dB, NaN where it is not known; rate in bit/s) as measured now; None where nothing is heard."""


def own_modem(read: ReadModem) -> Modem:
    """Asks `read` at every request. What raises or is no reading counts as not measured, and is said once."""
    said = False

    def newest(now_s: float) -> Measurement | None:
        nonlocal said
        try:
            found = read()
            if found is None:
                return Measurement(now_s, None)
            snr_db, rate_bps = (float(value) for value in found)
            if 0.0 < rate_bps < math.inf and not math.isinf(snr_db):
                return Measurement(now_s, Reading(snr_db, rate_bps))
            why = f"it says {snr_db:g} dB and {rate_bps:g} bit/s"
        except Exception as error:  # somebody else's code: it must not cost an answer
            why = f"{type(error).__name__}: {error}"
        if not said:
            said = True
            logger.warning("the modem cannot be read: %s", why)
        return None

    return newest
