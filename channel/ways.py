"""Messages of the service on their way over a device's link: what each costs, when it arrives, what noise it gets."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from ..protos import splitpoint_pb2 as pb
from ..protos.charges import charged
from .corruption import corrupted
from .link import REFINEMENT_IDS
from .radio import Passage, Radio

__all__ = ["RefineWay", "Way"]


class Way:
    """The requests of one call on their way up and down."""

    kind: type[pb.InferRequest] | type[pb.RefineRequest] = pb.InferRequest
    ids = 0

    def __init__(self, radio: Radio, device: int) -> None:
        self._radio = radio
        self._device = device
        self._up: dict[int, Passage] = {}

    async def up(self, data: bytes) -> bytes | None:
        """The request as the server gets it, when it does; None if it is swallowed."""
        try:
            request = self.kind.FromString(data)
        except DecodeError:
            # It costs what it weighs, and the server says what is wrong with it.
            return data if await self._radio.uplink(self._device, len(data), 0) else None
        nbytes, symbols = (
            charged(request, len(data)) if isinstance(request, pb.InferRequest) else (len(data), 0)
        )
        passage = await self._radio.uplink(self._device, nbytes, self.ids + request.request_id, symbols)
        if passage is None:
            return None
        self._up[request.request_id] = passage
        if symbols and isinstance(request, pb.InferRequest):
            return corrupted(
                request, self._radio.link(self._device), passage.transfer.start_s
            ).SerializeToString()
        return data

    async def down(self, data: bytes) -> bytes | None:
        """The reply as the device gets it, with the modem's report; None if it is swallowed."""
        try:
            reply = pb.InferReply.FromString(data)
        except DecodeError:
            return data
        if not reply.HasField("request_id"):
            return data
        radio, up = self._radio, self._up.pop(reply.request_id, None)
        passage = await radio.downlink(self._device, len(data), self.ids + reply.request_id)
        if passage is None:
            return None
        reading = radio.report(self._device, self.ids + reply.request_id)
        reply.link.snr_db, reply.link.rate_bps = reading.snr_db, reading.rate_bps
        reply.link.downlink_s, reply.link.airtime_down_s = passage.elapsed_s, passage.transfer.airtime_s
        if up is not None:
            reply.link.uplink_s, reply.link.airtime_up_s = up.elapsed_s, up.transfer.airtime_s
        return reply.SerializeToString()


class RefineWay(Way):
    """The same of what the server asked for: charged as the first message is, with losses of its own."""

    kind = pb.RefineRequest
    ids = REFINEMENT_IDS
