"""A lost server is looked for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc

from splitpoint.clock import Clock
from splitpoint.device.link_watch import LinkWatch
from splitpoint.device.load import load_head
from splitpoint.device.realtime_batch import BatchDevice
from splitpoint.policies.decision import Decision
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import LinkDown, Refused

from .conftest import Small
from .real_time import make_encoder, make_session

PROBE_S = 0.05


class Lost:
    """A server behind an outage: it gets no request, and health checks come through from the third on."""

    address = "nowhere"

    def __init__(self) -> None:
        self.checks = self.answered = 0

    def stream(self) -> Lost:
        return self

    async def infer(self, request: pb.InferRequest, timeout: float) -> pb.InferReply:
        raise LinkDown("nowhere: gone")

    async def health(self) -> bool:
        self.checks += 1
        if self.checks < 3:
            await asyncio.sleep(5.0)
            return False
        self.answered += 1
        return True

    async def close(self) -> None:
        pass


def test_a_health_check_that_an_outage_swallows_does_not_hold_up_the_next(small: Small) -> None:
    async def run() -> None:
        service = Lost()
        device = BatchDevice(
            make_session(small, Decision(2)),
            load_head(small.folder),
            make_encoder(small),
            service,  # type: ignore[arg-type]
            Clock(),
            probe_s=PROBE_S,
        )
        (finished,) = await device.serve_batch([small.image(0)], device.clock.now())
        assert finished.answer.degraded
        lost_s = device.clock.now()
        async with asyncio.timeout(3.0):
            while not device.session.link_up:
                await asyncio.sleep(0.001)
        assert device.clock.now() - lost_s > PROBE_S
        assert (service.checks, service.answered) == (3, 1)
        assert device.last_error is None
        await device.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_a_link_that_is_lost_again_as_it_is_found_is_looked_for_again() -> None:
    class Stubborn(Lost):
        async def health(self) -> bool:
            self.checks += 1
            if self.checks % 2:
                try:
                    await asyncio.sleep(5.0)
                except asyncio.CancelledError:
                    # Goes slowly: what happens meanwhile must not be lost.
                    for _ in range(5):
                        await asyncio.sleep(0)
                    raise
            return True

    async def run() -> None:
        session: Any = SimpleNamespace(link_up=True)
        watch = LinkWatch(session, Stubborn(), Clock(), 0.01, None)  # type: ignore[arg-type]
        for _ in range(5):
            watch.failed(LinkDown("nowhere: gone"))
            async with asyncio.timeout(1.0):
                while not session.link_up:
                    await asyncio.sleep(0)
        await watch.close()

    asyncio.run(run())


def test_why_a_server_that_fits_refuses_is_not_forgotten_as_it_is_found_again() -> None:
    async def run() -> None:
        session: Any = SimpleNamespace(link_up=True)
        asked: list[str] = []

        async def admit() -> None:
            asked.append("does it fit?")

        service = Lost()
        service.checks = 3
        watch = LinkWatch(session, service, Clock(), 0.01, admit)  # type: ignore[arg-type]
        await watch.connect()
        error = Refused(grpc.StatusCode.FAILED_PRECONDITION, "split: nobody takes it")
        assert not watch.failed(error)
        assert not session.link_up
        async with asyncio.timeout(1.0):
            while not session.link_up:
                await asyncio.sleep(0)
        assert len(asked) == 2
        assert watch.last_error is error
        await watch.close()

    asyncio.run(run())
