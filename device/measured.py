"""What a reply tells of its way, in real time; and whether it is one at all."""

from __future__ import annotations

import math

from ..errors import RemoteError
from ..models.card import ModelCard
from ..protos import splitpoint_pb2 as pb
from .accounting import Trip

__all__ = ["check", "measure"]


def check(reply: pb.InferReply, card: ModelCard, answers: int) -> None:
    """RemoteError where a reply does not fit its request: another number of answers, an unknown class or exit, a time
    that is none."""
    # Counted before they are looked at: a message has room for a million.
    if (count := 1 + len(reply.group)) != answers:
        raise RemoteError(f"the server's reply: {count} answers to {answers} groups")
    given: list[pb.InferReply | pb.Reading] = [reply, *reply.group]
    classes, exits = card.class_count, len(card.exits)
    for answer in given:
        if answer.prediction >= classes:
            raise RemoteError(f"the server's reply: prediction {answer.prediction} of {classes} classes")
        # Where learners voted it is one of their gates, of which there may be more.
        if answer.exit >= exits and not reply.HasField("quorum"):
            raise RemoteError(f"the server's reply: exit {answer.exit} of {exits}")
        if not 0.0 <= answer.margin <= 1.0:
            raise RemoteError(f"the server's reply: margin {answer.margin:g} is not in [0, 1]")
    link = reply.link
    told = (
        reply.server_s, reply.load, link.rate_bps, link.uplink_s, link.downlink_s,
        link.airtime_up_s, link.airtime_down_s,
    )  # fmt: skip
    if not all(0.0 <= value < math.inf for value in told) or math.isinf(link.snr_db):
        raise RemoteError("the server's reply: its times, load and link report must be finite")


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
