"""Requests and replies as they go over the wire: every scalar is set, so that size depends on shape only."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..protos import PROTOCOL_VERSION
from ..protos import splitpoint_pb2 as pb
from .errors import PayloadError, check_within
from .halves import half_bytes, read_halves

__all__ = [
    "GROUP_BYTES",
    "QUORUM_BYTES",
    "ExitReading",
    "build_reply",
    "build_request",
    "check_crc",
    "check_payload_crc",
    "check_plane_count",
    "exit_state_message",
    "payload_crc",
    "planes_crc",
    "read_exit_state",
]

GROUP_BYTES = pb.InferReply(group=[pb.Reading(prediction=1, margin=1.0, exit=1)]).ByteSize()
"""What each group of a merged batch after the first adds to a reply."""

QUORUM_BYTES = pb.InferReply(
    quorum=pb.Quorum(votes=1, asked=1, alive=1, macs=1, reason=pb.QUORUM_REASON_QUORUM)
).ByteSize()
"""What the account of a quorum adds to a reply."""


class ExitReading(NamedTuple):
    """Exit state of a request: u float32 (du,), running logits float32 (C,), exits passed, last margin."""

    u: np.ndarray
    logits: np.ndarray
    passed: int
    margin: float


def build_request(
    *,
    model_id: str,
    request_id: int,
    cut: int,
    deadline_s: float,
    exit_margin: float,
    payload: pb.Image | pb.Tokens | pb.Symbols,
    exit_state: pb.ExitState | None = None,
    refine_margin: float | None = None,
) -> pb.InferRequest:
    """One request with every scalar set and the CRC of its payload.

    cut         blocks executed on the device, 0 for an image
    deadline_s  relative, from the sending
    refine_margin  the device can send more where the server's margin is below this; None: it cannot
    """
    request = pb.InferRequest(
        protocol_version=PROTOCOL_VERSION,
        model_id=model_id,
        request_id=request_id,
        split=cut,
        deadline_s=deadline_s,
        exit_margin=exit_margin,
        refine=refine_margin is not None,
        refine_margin=refine_margin,
    )
    if isinstance(payload, pb.Tokens):
        request.tokens.CopyFrom(payload)
    elif isinstance(payload, pb.Image):
        request.image.CopyFrom(payload)
    else:
        request.symbols.CopyFrom(payload)
    if exit_state is not None:
        request.exit_state.CopyFrom(exit_state)
    request.payload_crc = payload_crc(request)
    return request


def build_reply(
    *,
    request_id: int,
    prediction: int,
    margin: float,
    exit: int,
    server_s: float,
    load: float,
    groups: Iterable[tuple[int, float, int]] = (),
) -> pb.InferReply:
    """One reply with every scalar set. `exit` is an index into the card's exits.

    groups  (prediction, margin, exit) of the merged groups after the first, in order
    """
    return pb.InferReply(
        request_id=request_id,
        prediction=prediction,
        margin=margin,
        exit=exit,
        server_s=server_s,
        load=load,
        group=[pb.Reading(prediction=p, margin=m, exit=e) for p, m, e in groups],
    )


def payload_crc(request: pb.InferRequest) -> int:
    """CRC-32 of the payload's bytes fields, in field order; 0 where there is no payload.

    Of symbols only what is digital counts, all fields but the values, which change on the air.
    """
    return zlib.crc32(b"".join(_payload_bytes(request)))


def planes_crc(planes: Iterable[bytes], tokens: pb.Tokens | None = None) -> int:
    """CRC-32 of a RefineRequest's bytes: its planes, then the fields of its further tokens."""
    return zlib.crc32(b"".join((*planes, *(_token_bytes(tokens) if tokens is not None else ()))))


def check_crc(message: pb.InferRequest | pb.RefineRequest | pb.TrainStepRequest, expected: int) -> None:
    """Raise PayloadError (field `payload_crc`) unless the message's CRC is there and as `expected`."""
    if not message.HasField("payload_crc"):
        raise PayloadError("payload_crc", "is missing")
    if message.payload_crc != expected:
        raise PayloadError(
            "payload_crc", f"is {message.payload_crc:#010x}, the payload's is {expected:#010x}"
        )


def check_plane_count(planes: Sequence[bytes], field: str = "tokens.planes") -> None:
    """Raise PayloadError where there are more than 8. Before anything is done with them: a message of 8 MB has room
    for four million that are empty."""
    if len(planes) > 8:
        raise PayloadError(field, f"must be at most 8, not {len(planes)}")


def check_payload_crc(request: pb.InferRequest) -> None:
    """Raise PayloadError (field `payload_crc`) unless the CRC is there and right."""
    check_plane_count(request.tokens.planes)
    check_crc(request, payload_crc(request))


def exit_state_message(u: np.ndarray, logits: np.ndarray, passed: int, margin: float) -> pb.ExitState:
    """Exit state as float16: u (du,), running logits (C,), exits passed (at least 1) and the last margin."""
    return pb.ExitState(
        state=half_bytes(u, "exit_state.state"),
        logits=half_bytes(logits, "exit_state.logits"),
        exits_passed=passed,
        margin=margin,
    )


def read_exit_state(message: pb.ExitState, state_dim: int, classes: int, exits: int) -> ExitReading:
    """Exit state of a request to a network with `exits` exits, checked; PayloadError names the field."""
    check_within("exit_state.exits_passed", message.exits_passed, 1, exits)
    if not (message.HasField("margin") and 0.0 <= message.margin <= 1.0):
        raise PayloadError("exit_state.margin", f"must be in 0..1, not {message.margin}")
    u = read_halves("exit_state.state", message.state, (state_dim,))
    logits = read_halves("exit_state.logits", message.logits, (classes,))
    return ExitReading(u, logits, message.exits_passed, message.margin)


def _payload_bytes(request: pb.InferRequest) -> list[bytes]:
    kind = request.WhichOneof("payload")
    if kind == "tokens":
        return _token_bytes(request.tokens)
    if kind == "image":
        return [request.image.data]
    if kind == "symbols":
        symbols = request.symbols
        return [struct.pack("<IIfI", symbols.count, symbols.per_token, symbols.snr_db, symbols.code_crc)]
    return []


def _token_bytes(tokens: pb.Tokens) -> list[bytes]:
    parts = [tokens.offset, tokens.scale, *tokens.planes]
    if tokens.HasField("groups"):
        parts.append(tokens.groups.assignment)
    return parts
