"""Standard gRPC health checking. Two things differ from the library's servicer: an undecodable message is
INVALID_ARGUMENT, not UNKNOWN, and a watcher that does not read holds up nobody but itself; there it held the lock
that the next change of state, the one at a shutdown too, waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from .refusals import Rejected, abort
from .validation import parse

__all__ = ["HEALTH", "HealthService"]

HEALTH: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
"""Full name of the gRPC service."""

_Response = health_pb2.HealthCheckResponse
_LOOK_S = 0.05


class HealthService:
    """Health of the whole server, "", and of the named services: what `set` says of all of them."""

    def __init__(self, *services: str) -> None:
        self._names = ("", *services)
        self._status: health_pb2.HealthCheckResponse.ServingStatus = _Response.NOT_SERVING
        self._changed = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server registers: Check and Watch."""
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        return grpc.method_handlers_generic_handler(HEALTH, methods)

    def set(self, serving: bool) -> None:
        """Tell this from now on, and those that watch at once."""
        self._status = _Response.SERVING if serving else _Response.NOT_SERVING
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self, able: Callable[[], bool]) -> None:
        """Set what `able` says whenever it changes, until it is cancelled."""
        said = None
        while True:
            if (now := able()) is not said:
                self.set(now)
                said = now
            await asyncio.sleep(_LOOK_S)

    # Both take bytes: a deserialiser that raises would turn an undecodable message into UNKNOWN.
    async def _check(self, data: bytes, context: Any) -> bytes:
        service = await _service(data, context)
        if service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "service: its health is not known here")
        return _Response(status=self._status).SerializeToString()

    async def _watch(self, data: bytes, context: Any) -> None:
        known, said = await _service(data, context) in self._names, None
        while True:
            changed, status = self._changed, self._status if known else _Response.SERVICE_UNKNOWN
            if status != said:
                await context.write(_Response(status=status).SerializeToString())
                said = status
            await changed.wait()


async def _service(data: bytes, context: Any) -> str:
    try:
        return parse(health_pb2.HealthCheckRequest, data).service
    except Rejected as refusal:
        await abort(context, refusal)
