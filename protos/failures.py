"""What can go wrong on the way to the server and back, as exceptions; all are RemoteError."""

from __future__ import annotations

import asyncio

import grpc

from ..errors import RemoteError

__all__ = ["BROKEN", "CertificateError", "LinkDown", "Refused", "TimedOut", "from_rpc_error", "from_status"]

BROKEN = (grpc.aio.AioRpcError, grpc.aio.InternalError, grpc.aio.UsageError, asyncio.InvalidStateError)
"""What a write raises on a call that is over, or that dies meanwhile; the call's own status says why."""


class LinkDown(RemoteError):  # noqa: N818 - reads as what happened
    """The server cannot be reached, or the stream broke with the request on it. Another try may succeed."""


class TimedOut(RemoteError):  # noqa: N818 - reads as what happened
    """No answer within the deadline."""


class CertificateError(RemoteError):
    """TLS was refused on one side. Reads as UNAVAILABLE on the wire, but no retry will help."""


class Refused(RemoteError):  # noqa: N818 - reads as what happened
    """The server answered with an error; `code` is its gRPC status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


_CODES = {code.value[0]: code for code in grpc.StatusCode}
_TLS_SIGNS = ("handshake failed", "verification check failed")
"""What gRPC says of a handshake that was held and came to nothing; where it broke off ("handshake read failed") only
the link is down. Whole phrases, since its texts name the host too."""


def from_status(code: grpc.StatusCode | int, details: str, address: str) -> RemoteError:
    """The exception for a status, with the address in its text."""
    if isinstance(code, int):
        code = _CODES.get(code, grpc.StatusCode.UNKNOWN)
    if code is grpc.StatusCode.UNAVAILABLE and any(sign in details.lower() for sign in _TLS_SIGNS):
        return CertificateError(f"{address}: no trusted TLS connection: {details}")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return LinkDown(f"{address}: not reachable: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOut(f"{address}: no answer in time: {details}")
    return Refused(code, f"{address}: refused ({code.name}): {details}")


def from_rpc_error(error: grpc.aio.AioRpcError, address: str) -> RemoteError:
    """The exception for a failed call."""
    return from_status(error.code(), error.details() or "", address)
