"""What becomes of a message between device and server: charged requests and replies, and everything else."""

from __future__ import annotations

from ..protos import splitpoint_pb2 as pb
from .corruption import corrupted, sent_symbols
from .radio import Passage, Radio
from .relay import Delivered

__all__ = ["InferWay", "PlainWay"]

_MAX_UNANSWERED = 4096


class InferWay:
    """The requests and replies of one call.

    radio   gives the radio of the present run. A request ends on the radio on which it began: a new run
            changes nothing for those under way, and they take no airtime from it.
    """

    def __init__(self, radio: Radio, device: int) -> None:
        self.radio = radio
        self._device = device
        self._sent: dict[int, tuple[Radio, Passage]] = {}

    def up(self, data: bytes, delivered: Delivered) -> None:
        """Deliver the request as the server gets it."""
        radio, device = self.radio, self._device
        try:
            request = pb.InferRequest.FromString(data)
        except Exception:  # upb raises DecodeError, the pure-Python parser others
            # It costs what it weighs, and the server says what is wrong with it.
            radio.uplink(device, len(data), 0, lambda passage: delivered(data if passage else None))
            return
        request_id = request.request_id
        symbols = sent_symbols(request) if request.HasField("symbols") else None

        def arrived(passage: Passage | None) -> None:
            if passage is None:
                delivered(None)
                return
            sent = self._sent
            if len(sent) >= _MAX_UNANSWERED:
                # A server that does not answer: the oldest are forgotten.
                del sent[next(iter(sent))]
            sent[request_id] = radio, passage
            if symbols is None:
                delivered(data)
            else:
                noisy = corrupted(request, symbols, radio.link(device), passage.transfer.start_s)
                delivered(noisy.SerializeToString())

        if symbols is None:
            radio.uplink(device, len(data), request_id, arrived)
        else:
            # Channel uses stand for the bytes of the symbols.
            nbytes = len(data) - len(request.symbols.values)
            radio.uplink(device, nbytes, request_id, arrived, symbols=symbols.size)

    def down(self, data: bytes, delivered: Delivered) -> None:
        """Deliver the reply with the modem's report. What is no reply to a request, as a notice, passes at once."""
        try:
            reply = pb.InferReply.FromString(data)
        except Exception:  # as above; the device says what is wrong with it
            delivered(data)
            return
        if not reply.HasField("request_id"):
            delivered(data)
            return
        request_id = reply.request_id
        radio, up = self._sent.pop(request_id, (self.radio, None))

        def arrived(passage: Passage | None) -> None:
            if passage is None:
                delivered(None)
                return
            link = reply.link
            link.snr_db, link.rate_bps = radio.report(self._device, request_id, passage.arrived_s)
            link.downlink_s, link.airtime_down_s = passage.elapsed_s, passage.transfer.airtime_s
            if up is not None:
                link.uplink_s, link.airtime_up_s = up.elapsed_s, up.transfer.airtime_s
            delivered(reply.SerializeToString())

        radio.downlink(self._device, len(data), request_id, arrived)


class PlainWay:
    """Messages of any other call: not charged, not looked into."""

    def __init__(self, radio: Radio, device: int) -> None:
        self.radio = radio
        self._device = device

    def up(self, data: bytes, delivered: Delivered) -> None:
        self.radio.propagate(self._device, lambda up: delivered(data if up else None))

    down = up
