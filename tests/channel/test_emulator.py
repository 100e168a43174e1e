"""The emulator process before a real server: what it delays, swallows, reports, and how it takes failures."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from splitpoint.channel.config import ChannelConfig, build_link
from splitpoint.channel.emulator import RESET, Emulator
from splitpoint.channel.emulator_process import main, reset_emulator
from splitpoint.channel.link import REFINEMENT_IDS
from splitpoint.channel.relay import relay
from splitpoint.errors import ConfigError, DataError
from splitpoint.protos import PROTOCOL_VERSION
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import LinkDown, Refused, ServiceClient, TimedOut
from splitpoint.protos.options import SERVICE, server_options

RAYLEIGH = {
    "kind": "rayleigh",
    "mean_snr_db": 15.0,
    "doppler_hz": 2.0,
    "round_trip_s": 0.02,
    "rate_scale": 0.5,
}
pytestmark = pytest.mark.timeout(90)


def _request(request_id: int, nbytes: int = 3000) -> pb.InferRequest:
    return pb.InferRequest(request_id=request_id, image=pb.Image(data=bytes(nbytes)))


class _Echo:
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


async def _serve(echo: _Echo, port: int = 0) -> tuple[grpc.aio.Server, int]:
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
async def _emulated(
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


def test_a_refinement_is_carried_as_a_request_is_with_losses_of_its_own(tmp_path: Path) -> None:
    lossy = {"kind": "constant", "rate_bps": 2e5, "round_trip_s": 0.02, "loss": 0.5}
    link = build_link(ChannelConfig.model_validate({"links": [lossy]}).link_of(0), 5, 0)

    async def scenario() -> list[tuple[int, float]]:
        server, port = await _serve(_Echo())
        rows = []
        async with _emulated(tmp_path, lossy, port) as (address, _), ServiceClient(address) as client:
            for number in range(1, 7):
                request = pb.RefineRequest(request_id=number, planes=[bytes(3000)])
                reply = await client.refine(request, 20.0)
                assert reply.prediction == 4
                assert reply.link.HasField("rate_bps")
                assert reply.link.uplink_s >= reply.link.airtime_up_s + 0.5 * link.round_trip_s - 1e-9
                rows.append((request.ByteSize(), reply.link.airtime_up_s))
        await server.stop(0.0)
        return rows

    differs = False
    for number, (nbytes, airtime_s) in enumerate(asyncio.run(scenario()), start=1):
        own = link.transfer_time(nbytes, 0.0, 2 * (number + REFINEMENT_IDS))
        assert airtime_s == pytest.approx(own, rel=1e-6)
        differs |= own != link.transfer_time(nbytes, 0.0, 2 * number)
    assert differs


def test_injected_delay_is_what_the_link_says(tmp_path: Path) -> None:
    config = ChannelConfig.model_validate({"links": [RAYLEIGH]})
    link = build_link(config.link_of(0), 5, 0)

    async def scenario() -> list[tuple[float, float, pb.LinkReport]]:
        server, port = await _serve(_Echo())
        rows = []
        async with _emulated(tmp_path, RAYLEIGH, port) as (address, _), ServiceClient(address) as client:
            stream = client.stream()
            epoch = time.time()
            await reset_emulator(address, epoch)
            for request_id in range(1, 31):
                request = _request(request_id)
                sent_s = time.time() - epoch
                reply = await stream.infer(request, 5.0)
                up = link.transfer_time(request.ByteSize(), sent_s, 2 * request_id)
                rows.append((time.time() - epoch - sent_s, up + link.round_trip_s, reply.link))
        await server.stop(None)
        return rows

    rows = asyncio.run(scenario())
    excess = sorted(took - said for took, said, _ in rows)
    assert excess[0] > -0.005
    assert excess[len(excess) // 2] < 0.010
    for _, said, report in rows:
        assert report.HasField("snr_db")
        assert report.rate_bps > 0
        assert report.airtime_up_s == pytest.approx(said - link.round_trip_s, abs=0.02)
        assert report.uplink_s == pytest.approx(report.airtime_up_s + 0.01, abs=1e-3)


def test_an_outage_swallows_requests_and_health_checks(tmp_path: Path) -> None:
    link = RAYLEIGH | {"outages": {"windows": [[0.0, 1.5]]}}

    async def scenario() -> None:
        server, port = await _serve(_Echo())
        async with _emulated(tmp_path, link, port) as (address, _), ServiceClient(address) as client:
            stream = client.stream()
            await reset_emulator(address, time.time())
            with pytest.raises(TimedOut):
                await stream.infer(_request(1), 0.4)
            with pytest.raises(TimedOut):
                await client.infer(_request(2), 0.2)
            assert not await client.health(0.2)
            await asyncio.sleep(0.8)
            assert await client.health(1.0)
            assert (await stream.infer(_request(3), 1.0)).prediction == 3
        await server.stop(None)

    asyncio.run(scenario())


def test_a_reply_that_an_outage_swallows_does_not_end_its_call(tmp_path: Path) -> None:
    link = {"kind": "constant", "rate_bps": 1e8, "round_trip_s": 0.0, "outages": {"windows": [[0.3, 1.5]]}}

    async def scenario() -> None:
        server, port = await _serve(_Echo())
        async with _emulated(tmp_path, link, port) as (address, _), ServiceClient(address) as client:
            await reset_emulator(address, time.time())
            with pytest.raises(TimedOut):
                await client.describe(1.0)
            await asyncio.sleep(0.6)
            await client.describe()
        await server.stop(None)

    asyncio.run(scenario())


def test_a_dead_server_is_told_at_once_and_a_new_one_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, port = await _serve(_Echo())
        link = {"kind": "constant", "rate_bps": 1e8, "round_trip_s": 0.0}
        async with _emulated(tmp_path, link, port) as (address, _), ServiceClient(address) as client:
            stream = client.stream()
            assert (await stream.infer(_request(1), 2.0)).prediction == 3
            await server.stop(None)
            began = time.monotonic()
            with pytest.raises(LinkDown):
                await stream.infer(_request(2), 5.0)
            assert time.monotonic() - began < 1.0
            assert not await client.health(0.5)
            server, _ = await _serve(_Echo(), port)
            began = time.monotonic()
            while not await client.health(0.5):
                await asyncio.sleep(0.05)
            assert time.monotonic() - began < 2.0
            assert (await stream.infer(_request(3), 2.0)).prediction == 3
        await server.stop(None)

    asyncio.run(scenario())


def test_a_reply_that_is_being_written_is_written_to_its_end() -> None:
    """What is still on its way is given up with the stream; gRPC takes no status in the middle of a first message."""

    async def scenario() -> list[bytes]:
        messages = iter((b"written", b"on its way"))
        begun, written = asyncio.Event(), []

        async def read() -> bytes:
            if (data := next(messages, None)) is not None:
                return data
            await begun.wait()
            raise ConnectionResetError

        async def carry(data: bytes) -> bytes:
            return data if data == b"written" else await asyncio.Future()

        async def write(data: bytes) -> None:
            begun.set()
            await asyncio.sleep(0.05)
            written.append(data)

        with pytest.raises(ConnectionResetError):
            await relay(read, carry, write)
        return written

    assert asyncio.run(asyncio.wait_for(scenario(), 10.0)) == [b"written"]


def test_a_reply_to_a_device_that_dies_as_it_is_written_is_told_to_nobody() -> None:
    """What gRPC raises then is nobody's to hear of; asyncio would write about a task that failed."""
    told: list[Any] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        messages = iter((b"reply",))

        async def read() -> bytes | None:
            await asyncio.sleep(0.01)
            return next(messages, None)

        async def carry(data: bytes) -> bytes:
            return data

        async def write(data: bytes) -> None:
            raise grpc.aio.InternalError('Failed "execute_batch"')

        await relay(read, carry, write)
        gc.collect()

    asyncio.run(asyncio.wait_for(scenario(), 10.0))
    assert told == []


def test_symbols_get_the_links_noise_and_take_channel_uses(tmp_path: Path) -> None:
    sent = np.tile(np.array([1.0, 0.0], "<f2"), 4096).tobytes()
    echo = _Echo()

    async def scenario() -> pb.LinkReport:
        server, port = await _serve(echo)
        link = {"kind": "awgn", "mean_snr_db": 10.0, "bandwidth_hz": 1e6}
        async with _emulated(tmp_path, link, port) as (address, _), ServiceClient(address) as client:
            request = pb.InferRequest(
                request_id=1,
                symbols=pb.Symbols(count=64, per_token=64, values=sent),
            )
            reply = await client.infer(request, 5.0)
        await server.stop(None)
        return reply.link

    link = asyncio.run(scenario())
    # 4096 symbols at 1 MHz; as bytes they would take four times as long at this rate.
    assert link.airtime_up_s == pytest.approx(4096e-6, rel=0.05)
    noise = np.frombuffer(echo.symbols[-1], "<f2").astype(float) - np.frombuffer(sent, "<f2").astype(float)
    assert 2 * noise.var() == pytest.approx(0.1, rel=0.1)


def test_symbols_on_a_medium_that_carries_none_are_refused_at_once(tmp_path: Path) -> None:
    trace = tmp_path / "steady.up"
    trace.write_text("1\n")
    symbols = pb.InferRequest(request_id=1, symbols=pb.Symbols(count=1, per_token=1, values=bytes(4)))

    async def scenario() -> None:
        server, port = await _serve(_Echo())
        async with (
            _emulated(tmp_path, RAYLEIGH, port, uplink={"kind": "mahimahi", "path": str(trace)}) as (
                address,
                _,
            ),
            ServiceClient(address) as client,
        ):
            stream = client.stream()
            for infer in (stream.infer, client.infer):
                with pytest.raises(Refused, match="carries bytes, not symbols") as caught:
                    await infer(symbols, 5.0)
                assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
            assert (await stream.infer(_request(2), 5.0)).prediction == 3
        await server.stop(None)

    asyncio.run(scenario())


def test_a_run_that_begins_at_no_time_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, port = await _serve(_Echo())
        async with _emulated(tmp_path, RAYLEIGH, port) as (address, _), ServiceClient(address) as client:
            reset = client.channel.unary_unary(RESET, None, None)
            for epoch in ("NaN", "1e999", "1" + 400 * "0", '"soon"'):
                with pytest.raises(grpc.aio.AioRpcError, match="Reset takes"):
                    await reset(b'{"epoch": %s}' % epoch.encode(), timeout=5.0)
            assert (await client.infer(_request(1), 5.0)).prediction == 3
        await server.stop(None)

    asyncio.run(scenario())


def test_garbage_and_vanishing_clients_do_no_harm(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, port = await _serve(_Echo())
        async with _emulated(tmp_path, RAYLEIGH, port) as (address, process):
            async with grpc.aio.insecure_channel(address) as channel:
                for method in ("Infer", "Nothing"):
                    call = channel.unary_unary(f"/{SERVICE}/{method}", None, None)
                    with pytest.raises(grpc.aio.AioRpcError):
                        await call(b"\xff\xff\xff", timeout=2.0, metadata=(("splitpoint-device", "many"),))
                vanishing = channel.stream_stream(f"/{SERVICE}/InferStream", None, None)()
                await vanishing.write(_request(1).SerializeToString())
                vanishing.cancel()
            async with ServiceClient(address) as client:
                assert (await client.stream().infer(_request(2), 3.0)).prediction == 3
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
