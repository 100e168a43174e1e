"""The channel emulator as a process: configure, listen, relay until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import grpc
from pydantic import ValidationError

from ..config_errors import first_problem
from ..errors import ConfigError, UsageError
from ..protos.client import connect
from ..protos.last_calls import last_calls
from ..protos.options import server_options
from ..yaml_file import read_yaml
from .config import ChannelConfig
from .emulator import RESET, Emulator

__all__ = ["main", "reset_emulator", "serve_emulator"]


async def serve_emulator(
    config: ChannelConfig, upstream: str, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0
) -> None:
    """Serve until SIGTERM or SIGINT. Prints `listening on HOST:PORT` when devices may come."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    emulator = Emulator(config, upstream, seed)
    server = grpc.aio.server(options=server_options())
    server.add_generic_rpc_handlers((emulator.handler(),))
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise UsageError(f"cannot listen on {host}:{port}: the port is taken or not ours to use") from None
    await server.start()
    print(f"listening on {host}:{bound}", flush=True)
    await stop.wait()
    await server.stop(0.5)
    await emulator.close()
    await last_calls()


def main(path: Path, upstream: str, *, host: str, port: int, seed: int) -> None:
    """`serve_emulator` with the ChannelConfig in a YAML or JSON file. Raises ConfigError."""
    try:
        config = ChannelConfig.model_validate(read_yaml(path, "the channel's file"))
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error, ChannelConfig.model_json_schema())}") from None
    asyncio.run(serve_emulator(config, upstream, host=host, port=port, seed=seed))


async def reset_emulator(address: str, epoch: float) -> None:
    """Tell the emulator at `address` that a new run begins at `epoch`, by `time.time()`."""
    async with connect(address) as channel:
        await channel.unary_unary(RESET, None, None)(json.dumps({"epoch": epoch}).encode(), timeout=5.0)
