"""Why a request is not served: one exception with its gRPC status, and the texts that several places give."""

from __future__ import annotations

import time
from typing import Any, NoReturn

import grpc

from ..codec.errors import PayloadError
from ..errors import RemoteError

__all__ = [
    "Rejected",
    "abort",
    "absent",
    "bad_payload",
    "dropped",
    "failed",
    "invalid",
    "queue_full",
    "shutting_down",
    "unmet",
]


class Rejected(RemoteError):  # noqa: N818 - reads as what happened
    """A request is not served; `code` is its gRPC status, the text names the field."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def absent(method: str, started: str) -> Rejected:
    """UNIMPLEMENTED: this server was not started for the method; one that was `started` so has it."""
    return Rejected(
        grpc.StatusCode.UNIMPLEMENTED, f"{method}: not served here; one started with {started} does"
    )


async def abort(context: Any, refusal: Rejected) -> NoReturn:
    """End the call of this gRPC context by the refusal."""
    await context.abort(refusal.code, str(refusal))
    raise refusal


def invalid(message: str) -> Rejected:
    """INVALID_ARGUMENT; `message` begins with the field."""
    return Rejected(grpc.StatusCode.INVALID_ARGUMENT, message)


def bad_payload(error: PayloadError, within: str = "") -> Rejected:
    """INVALID_ARGUMENT for what the codec does not take; `within` names the message around it, with its dot."""
    return invalid(f"{within}{error.field}: {error.problem}")


def unmet(message: str) -> Rejected:
    """FAILED_PRECONDITION: a good request, but not for this server or not now; `message` begins with the field."""
    return Rejected(grpc.StatusCode.FAILED_PRECONDITION, message)


def queue_full(waiting: int, what: str = "requests") -> Rejected:
    """RESOURCE_EXHAUSTED: no more are taken in while so many are waiting or in work."""
    return Rejected(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"queue full: {waiting} {what} are waiting or in work"
    )


def failed() -> Rejected:
    """INTERNAL: the server's fault; what happened stands in its log and is nobody else's business."""
    return Rejected(grpc.StatusCode.INTERNAL, "the server failed on this request; its log says why")


def shutting_down() -> Rejected:
    """UNAVAILABLE: another server, or this one later, may take it."""
    return Rejected(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")


def dropped(cancelled: bool, expires: float | None) -> Rejected | None:
    """Why queued work is not begun: nobody waits any more, or `expires`, by time.monotonic(), is over. Else None."""
    if cancelled:
        return Rejected(grpc.StatusCode.CANCELLED, "cancelled by the client")
    if expires is not None and time.monotonic() > expires:
        return Rejected(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline_s: passed in the queue")
    return None
