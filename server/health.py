"""Standard gRPC health checking, but for one thing: an undecodable message is INVALID_ARGUMENT, not UNKNOWN."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from .refusals import Rejected, abort
from .validation import parse

__all__ = ["HEALTH", "HealthService"]

HEALTH = health.SERVICE_NAME
"""Full name of the gRPC service."""

_Response = health_pb2.HealthCheckResponse
_LOOK_S = 0.05


class HealthService:
    """Health of the whole server, "", and of the named services: what `set` says of all of them."""

    def __init__(self, *services: str) -> None:
        self._names = ("", *services)
        self._checks = health.aio.HealthServicer()  # type: ignore[attr-defined]

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server registers: Check and Watch."""
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(
                self._check, response_serializer=_Response.SerializeToString
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self._watch, response_serializer=_Response.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(HEALTH, methods)

    async def set(self, serving: bool) -> None:
        status = _Response.SERVING if serving else _Response.NOT_SERVING
        for name in self._names:
            await self._checks.set(name, status)

    async def follow(self, able: Callable[[], bool]) -> None:
        """Set what `able` says whenever it changes, until it is cancelled."""
        said = None
        while True:
            if (now := able()) is not said:
                await self.set(now)
                said = now
            await asyncio.sleep(_LOOK_S)

    # Both take bytes: a deserialiser that raises would turn an undecodable message into UNKNOWN.
    async def _check(self, data: bytes, context: Any) -> Any:
        return await self._checks.Check(await _request(data, context), context)

    async def _watch(self, data: bytes, context: Any) -> None:
        await self._checks.Watch(await _request(data, context), context)


async def _request(data: bytes, context: Any) -> health_pb2.HealthCheckRequest:
    try:
        return parse(health_pb2.HealthCheckRequest, data)
    except Rejected as refusal:
        await abort(context, refusal)
