"""One offloaded request on its way through media and server, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..channel.link import REFINEMENT_IDS
from ..device.accounting import Trip
from ..device.effects import Offload, OffloadBatch, Refine, Reply
from .backends import Upload

if TYPE_CHECKING:
    from .virtual import VirtualDevice

__all__ = ["Call"]


class Call:
    """What device, media and server know of it.

    key      as links draw by it: 2·request id, ids from 1 as on the wire
    open     the device still waits for the reply
    sent_s, received_s, replied_s   when it was put on the air, reached the server and was answered there
    reply    None until then, and where the server refused
    sample   index of the input
    """

    __slots__ = (
        "answer_by_s", "cut", "decision", "device", "key", "open", "received_s", "refines", "replied_s", "reply",
        "sample", "sent_s", "trip", "upload",
    )  # fmt: skip

    sent_s: float
    received_s: float
    replied_s: float

    def __init__(
        self, device: VirtualDevice, effect: Offload | Refine | OffloadBatch, upload: Upload, trip: Trip
    ) -> None:
        self.device = device
        self.cut = effect.cut
        self.decision = effect.decision
        self.answer_by_s = effect.answer_by_s
        self.upload = upload
        self.trip = trip
        self.key = 2 * device.next
        self.sample = device.samples[device.next - 1]
        self.refines = type(effect) is Refine
        if self.refines:
            self.key += 2 * REFINEMENT_IDS
        self.open = True
        self.reply: Reply | None = None
