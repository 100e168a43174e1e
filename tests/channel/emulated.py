"""The emulator as a process of its own, between a client and a server that answers everything."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from splitpoint.protos import PROTOCOL_VERSION
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import ServiceClient
from splitpoint.protos.options import SERVICE, server_options

RAYLEIGH = {
    "kind": "rayleigh",
    "mean_snr_db": 15.0,
    "doppler_hz": 2.0,
    "round_trip_s": 0.02,
    "rate_scale": 0.5,
}


def request_of(request_id: int, nbytes: int = 3000) -> pb.InferRequest:
    return pb.InferRequest(request_id=request_id, image=pb.Image(data=bytes(nbytes)))


class Echo:
    """Answers every request at once; keeps the symbols that it got."""

    def __init__(self) -> None:
        self.symbols: list[bytes] = []

    async def stream(self, _: AsyncIterator[bytes], context: Any) -> None:
        while isinstance(data := await context.read(), bytes):
            await context.write(self._reply(data))

    async def infer(self, data: bytes, context: Any) -> bytes:
        return self._reply(data)

    async def refine(self, data: bytes, context: Any) -> bytes:
        request = pb.RefineRequest.FromString(data)
        return pb.InferReply(request_id=request.request_id, prediction=4, margin=0.9).SerializeToString()

    async def describe(self, data: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.5)
        return pb.DescribeReply(protocol_version=PROTOCOL_VERSION).SerializeToString()

    def _reply(self, data: bytes) -> bytes:
        request = pb.InferRequest.FromString(data)
        self.symbols.append(request.symbols.values)
        return pb.InferReply(request_id=request.request_id, prediction=3, margin=0.5).SerializeToString()


async def serve(echo: Echo, port: int = 0) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=server_options())
    methods = {
        "InferStream": grpc.stream_stream_rpc_method_handler(echo.stream),
        "Infer": grpc.unary_unary_rpc_method_handler(echo.infer),
        "Refine": grpc.unary_unary_rpc_method_handler(echo.refine),
        "Describe": grpc.unary_unary_rpc_method_handler(echo.describe),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    servicer = health_pb2_grpc.HealthServicer()

    async def check(request: Any, context: Any) -> Any:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    servicer.Check = check
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, bound


@asynccontextmanager
async def emulated(
    tmp_path: Path, link: dict[str, Any], upstream: int, **media: Any
) -> AsyncIterator[tuple[str, Any]]:
    config = tmp_path / "channel.json"
    config.write_text(json.dumps({"links": [link], **media}))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "splitpoint", "channel", "--config", str(config)),
            *("--upstream", f"127.0.0.1:{upstream}", "--listen", "127.0.0.1:0", "--seed", "5"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        yield line.removeprefix("listening on ").strip(), process
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(process.communicate, timeout=10)
    assert process.returncode == 0
    assert "Traceback" not in errors


@asynccontextmanager
async def connected(
    tmp_path: Path, link: dict[str, Any], echo: Echo | None = None, **media: Any
) -> AsyncIterator[ServiceClient]:
    """A client of an emulator of its own, behind which an echo answers."""
    server, port = await serve(echo or Echo())
    async with emulated(tmp_path, link, port, **media) as (address, _), ServiceClient(address) as client:
        yield client
    await server.stop(None)
