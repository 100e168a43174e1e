"""What a policy sees: estimates only, never the true channel and never a label."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Observation"]


class Observation(NamedTuple):
    """The device's view when a request comes to its turn. NaN stands for 'not known yet'.

    snr_db         last SNR that the modem reported
    rate_bps       estimated rate of the link, from the report or from bytes over measured time
    rate_sigma_db  standard deviation of that estimate, in dB
    round_trip_s   estimated round trip of an empty message, codec and RPC included
    device_queue   requests that wait on the device behind this one
    server_load    requests waiting or in work on the server, as of the last reply
    energy_j       energy left in the device's battery; infinite on mains
    time_left_s    until this request's deadline; negative when it has passed
    link_up        False while the link is known to be down, or the modem hears nothing
    """

    snr_db: float
    rate_bps: float
    rate_sigma_db: float
    round_trip_s: float
    device_queue: int
    server_load: float
    energy_j: float
    time_left_s: float
    link_up: bool
