"""What a reply tells of its way, in real time."""

from __future__ import annotations

from ..protos import splitpoint_pb2 as pb
from .accounting import Trip

__all__ = ["measure"]


def measure(trip: Trip, reply: pb.InferReply, now_s: float) -> None:
    """Fill in the trip from the reply; without a modem's report the air time is what the server does not explain."""
    link = reply.link if reply.HasField("link") else None
    reply.ClearField("link")
    trip.downlink_bytes = reply.ByteSize()
    trip.server_s, trip.load = reply.server_s, reply.load
    quorum = reply.quorum
    trip.votes, trip.asked, trip.quorum_macs = quorum.votes, quorum.asked, quorum.macs
    if link is not None and link.HasField("rate_bps"):
        trip.snr_db, trip.rate_bps = link.snr_db, link.rate_bps
        trip.uplink_s, trip.downlink_s = link.uplink_s, link.downlink_s
        trip.airtime_up_s, trip.airtime_down_s = link.airtime_up_s, link.airtime_down_s
        return
    on_air_s = max(0.0, now_s - trip.sent_s - trip.server_s)
    share = trip.uplink_bytes / (trip.uplink_bytes + trip.downlink_bytes)
    trip.uplink_s = trip.airtime_up_s = on_air_s * share
    trip.downlink_s = trip.airtime_down_s = on_air_s * (1 - share)
