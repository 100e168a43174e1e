"""What the emulator refuses, and that nothing a client sends ends it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from splitpoint.channel.config import ChannelConfig
from splitpoint.channel.emulator import RESET, Emulator
from splitpoint.channel.emulator_process import main
from splitpoint.errors import ConfigError, DataError
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import Refused, ServiceClient
from splitpoint.protos.options import SERVICE

from .emulated import RAYLEIGH, Echo, connected, emulated, request_of, serve

pytestmark = pytest.mark.timeout(90)


def test_symbols_on_a_medium_that_carries_none_are_refused_at_once(tmp_path: Path) -> None:
    trace = tmp_path / "steady.up"
    trace.write_text("1\n")
    symbols = pb.InferRequest(request_id=1, symbols=pb.Symbols(count=1, per_token=1, values=bytes(4)))

    async def scenario() -> None:
        medium = {"kind": "mahimahi", "path": str(trace)}
        async with connected(tmp_path, RAYLEIGH, uplink=medium) as client:
            stream = client.stream()
            for infer in (stream.infer, client.infer):
                with pytest.raises(Refused, match="carries bytes, not symbols") as caught:
                    await infer(symbols, 5.0)
                assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
            assert (await stream.infer(request_of(2), 5.0)).prediction == 3

    asyncio.run(scenario())


def test_a_run_that_begins_at_no_time_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connected(tmp_path, RAYLEIGH) as client:
            reset = client.channel.unary_unary(RESET, None, None)
            for epoch in ("NaN", "1e999", "1" + 400 * "0", '"soon"'):
                with pytest.raises(grpc.aio.AioRpcError, match="Reset takes"):
                    await reset(b'{"epoch": %s}' % epoch.encode(), timeout=5.0)
            assert (await client.infer(request_of(1), 5.0)).prediction == 3

    asyncio.run(scenario())


def test_garbage_and_vanishing_clients_do_no_harm(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, port = await serve(Echo())
        async with emulated(tmp_path, RAYLEIGH, port) as (address, process):
            async with grpc.aio.insecure_channel(address) as channel:
                for method in ("Infer", "Nothing"):
                    call = channel.unary_unary(f"/{SERVICE}/{method}", None, None)
                    with pytest.raises(grpc.aio.AioRpcError):
                        await call(b"\xff\xff\xff", timeout=2.0, metadata=(("splitpoint-device", "many"),))
                vanishing = channel.stream_stream(f"/{SERVICE}/InferStream", None, None)()
                await vanishing.write(request_of(1).SerializeToString())
                vanishing.cancel()
            async with ServiceClient(address) as client:
                assert (await client.stream().infer(request_of(2), 3.0)).prediction == 3
            assert process.poll() is None
        await server.stop(None)

    asyncio.run(scenario())


def test_a_trace_that_is_not_there_is_told_before_any_device_comes() -> None:
    links = [RAYLEIGH, {"kind": "snr_trace", "path": "nowhere.csv"}]

    async def make() -> None:
        await Emulator(ChannelConfig.model_validate({"links": links}), "127.0.0.1:9", 0).close()

    with pytest.raises(DataError, match=r"nowhere\.csv"):
        asyncio.run(make())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"links": [RAYLEIGH], "uplnk": {}}, "unknown key 'uplnk': did you mean 'uplink'"),
        (
            {"links": [{"kind": "awgn", "mean_snr": 3}]},
            r"links\.0\.awgn\.mean_snr': did you mean 'mean_snr_db'",
        ),
        ({"links": [{"kind": "rayleih"}]}, r"links\.0: unknown kind 'rayleih': did you mean 'rayleigh'"),
        ({"link": RAYLEIGH}, "unknown key 'link': did you mean 'links'"),
    ],
)
def test_what_is_wrong_with_a_channels_file_names_the_nearest(tmp_path: Path, config: Any, said: str) -> None:
    path = tmp_path / "channel.json"
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=said) as caught:
        main(path, "127.0.0.1:9", host="127.0.0.1", port=0, seed=0)
    assert "\n" not in str(caught.value)
