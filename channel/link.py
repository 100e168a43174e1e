"""What a link between one device and the server is: what a message costs on it at any time."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .rate import Rate

__all__ = ["GIVE_UP_S", "REFINEMENT_IDS", "Link", "LinkState"]

GIVE_UP_S = 60.0
"""A transfer that has not ended after this, as in a fade that carries nothing, counts as swallowed."""

REFINEMENT_IDS = 1 << 40
"""Added to the request_id of a request's second message on the way: its losses are draws of their own."""


class LinkState(NamedTuple):
    """The true state at one time; policies see a report of it only (`report.py`).

    snr_db        signal to noise ratio
    rate_bps      bits a second at that SNR; 0 when down
    round_trip_s  of an empty message
    loss          probability that a packet is lost
    up            False inside an outage
    """

    snr_db: float
    rate_bps: float
    round_trip_s: float
    loss: float
    up: bool


class Link(Protocol):
    """What media, engines and the emulator need of a link.

    All times are seconds since the epoch of the run, t >= 0. `key` is 2·request_id for the way up and
    2·request_id + 1 for the way down.
    """

    device: int
    round_trip_s: float
    rate: Rate

    def state(self, t: float) -> LinkState: ...

    def snr_db(self, t: float) -> float:
        """That of the state at `t`."""
        ...

    def up(self, t: float) -> bool:
        """That of the state at `t`."""
        ...

    def transfer_time(self, nbytes: int, t: float, key: int, symbols: int = 0) -> float:
        """Seconds from `t` until `nbytes` and `symbols` have left the air; infinite if swallowed."""
        ...

    def packets(self, nbytes: int, t: float, key: int) -> tuple[int, float]:
        """(packets to be sent, lost ones again included; bits in each, header included)."""
        ...

    def air_time(self, bits: float, t: float) -> float:
        """Seconds that `bits` take from `t` with nothing added; infinite if swallowed."""
        ...

    def cut_off(self, t: float) -> float:
        """When a transfer that began at `t`, and was swallowed, leaves the air."""
        ...

    def corrupt(self, symbols: NDArray[np.complex64], t: float, key: int) -> NDArray[np.complex64]:
        """Symbols as they are received: same shape, complex64."""
        ...
