"""The emulator process before a real server: what it delays, swallows, reports, and how it takes failures."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from splitpoint.channel.config import ChannelConfig, build_link
from splitpoint.channel.emulator_process import reset_emulator
from splitpoint.channel.link import REFINEMENT_IDS
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import LinkDown, ServiceClient, TimedOut

from .emulated import RAYLEIGH, Echo, connected, emulated, request_of, serve

pytestmark = pytest.mark.timeout(90)


def test_a_refinement_is_carried_as_a_request_is_with_losses_of_its_own(tmp_path: Path) -> None:
    lossy = {"kind": "constant", "rate_bps": 2e5, "round_trip_s": 0.02, "loss": 0.5}
    link = build_link(ChannelConfig.model_validate({"links": [lossy]}).link_of(0), 5, 0)

    async def scenario() -> list[tuple[int, float]]:
        rows = []
        async with connected(tmp_path, lossy) as client:
            for number in range(1, 7):
                request = pb.RefineRequest(request_id=number, planes=[bytes(3000)])
                reply = await client.refine(request, 20.0)
                assert reply.prediction == 4
                assert reply.link.HasField("rate_bps")
                assert reply.link.uplink_s >= reply.link.airtime_up_s + 0.5 * link.round_trip_s - 1e-9
                rows.append((request.ByteSize(), reply.link.airtime_up_s))
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
        rows = []
        async with connected(tmp_path, RAYLEIGH) as client:
            stream = client.stream()
            epoch = time.time()
            await reset_emulator(client.address, epoch)
            for request_id in range(1, 31):
                request = request_of(request_id)
                sent_s = time.time() - epoch
                reply = await stream.infer(request, 5.0)
                up = link.transfer_time(request.ByteSize(), sent_s, 2 * request_id)
                rows.append((time.time() - epoch - sent_s, up + link.round_trip_s, reply.link))
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
        async with connected(tmp_path, link) as client:
            stream = client.stream()
            await reset_emulator(client.address, time.time())
            with pytest.raises(TimedOut):
                await stream.infer(request_of(1), 0.4)
            with pytest.raises(TimedOut):
                await client.infer(request_of(2), 0.2)
            assert not await client.health(0.2)
            await asyncio.sleep(0.8)
            assert await client.health(1.0)
            assert (await stream.infer(request_of(3), 1.0)).prediction == 3

    asyncio.run(scenario())


def test_a_reply_that_an_outage_swallows_does_not_end_its_call(tmp_path: Path) -> None:
    link = {"kind": "constant", "rate_bps": 1e8, "round_trip_s": 0.0, "outages": {"windows": [[0.3, 1.5]]}}

    async def scenario() -> None:
        async with connected(tmp_path, link) as client:
            await reset_emulator(client.address, time.time())
            with pytest.raises(TimedOut):
                await client.describe(1.0)
            await asyncio.sleep(0.6)
            await client.describe()

    asyncio.run(scenario())


def test_a_dead_server_is_told_at_once_and_a_new_one_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, port = await serve(Echo())
        link = {"kind": "constant", "rate_bps": 1e8, "round_trip_s": 0.0}
        async with emulated(tmp_path, link, port) as (address, _), ServiceClient(address) as client:
            stream = client.stream()
            assert (await stream.infer(request_of(1), 2.0)).prediction == 3
            await server.stop(None)
            began = time.monotonic()
            with pytest.raises(LinkDown):
                await stream.infer(request_of(2), 5.0)
            assert time.monotonic() - began < 1.0
            assert not await client.health(0.5)
            server, _ = await serve(Echo(), port)
            began = time.monotonic()
            while not await client.health(0.5):
                await asyncio.sleep(0.05)
            assert time.monotonic() - began < 2.0
            assert (await stream.infer(request_of(3), 2.0)).prediction == 3
        await server.stop(None)

    asyncio.run(scenario())


def test_symbols_get_the_links_noise_and_take_channel_uses(tmp_path: Path) -> None:
    sent = np.tile(np.array([1.0, 0.0], "<f2"), 4096).tobytes()
    echo = Echo()

    async def scenario() -> pb.LinkReport:
        link = {"kind": "awgn", "mean_snr_db": 10.0, "bandwidth_hz": 1e6}
        async with connected(tmp_path, link, echo) as client:
            request = pb.InferRequest(
                request_id=1,
                symbols=pb.Symbols(count=64, per_token=64, values=sent),
            )
            reply = await client.infer(request, 5.0)
        return reply.link

    link = asyncio.run(scenario())
    # 4096 symbols at 1 MHz; as bytes they would take four times as long at this rate.
    assert link.airtime_up_s == pytest.approx(4096e-6, rel=0.05)
    noise = np.frombuffer(echo.symbols[-1], "<f2").astype(float) - np.frombuffer(sent, "<f2").astype(float)
    assert 2 * noise.var() == pytest.approx(0.1, rel=0.1)
