"""The agent in real time whose server dies, freezes, forgets or changes: no answer is lost."""

from __future__ import annotations

import asyncio
import math
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from splitpoint.device.head import HeadState
from splitpoint.device.load import load_head
from splitpoint.device.session import Finished
from splitpoint.errors import RemoteError
from splitpoint.policies.decision import Decision
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import LinkDown

from .conftest import Server, Small, Start, free_address
from .real_time import DEADLINE_S, REFINED, ask, device_at


class _Broken:
    """A head whose tokens cannot be encoded."""

    def __init__(self, small: Small) -> None:
        self._head = load_head(small.file)
        self.card = small.card

    def embed(self, image: np.ndarray, keep: float = 1.0) -> HeadState:
        return self._head.embed(image, keep)

    def run(self, state: HeadState, start: int, stop: int) -> HeadState:
        done = self._head.run(state, start, stop)
        return HeadState(
            done.tokens * np.float32(np.nan), done.scores, stop, state.u, state.logits, state.passed
        )

    def exit(self, state: HeadState, index: int) -> HeadState:
        finite = HeadState(np.zeros_like(state.tokens), state.scores, state.blocks, passed=state.passed)
        return self._head.exit(finite, index)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_server_lost_between_the_messages_leaves_its_first_answer(
    start_server: Start, small: Small, number: signal.Signals
) -> None:
    server = start_server(small.file)

    async def run() -> Finished:
        async with device_at(small, server.address, REFINED) as device:
            await ask(device, small.image(0))
            send = device.encoder.refinement

            def stop_and_send(*args: Any, **names: Any) -> pb.RefineRequest:
                server.signal(number)
                return send(*args, **names)

            device.encoder.refinement = stop_and_send
            finished = await ask(device, small.image(1))
            assert not device.session.link_up
            assert not (await ask(device, small.image(2))).answer.offloaded
            return finished

    answer = asyncio.run(run()).answer
    assert (answer.offloaded, answer.refined, answer.degraded, answer.exit) == (True, True, True, 2)


def test_a_session_that_the_server_has_forgotten_is_no_lost_link(server: Server, small: Small) -> None:
    async def run() -> Finished:
        async with device_at(small, server.address, REFINED) as device:
            send = device.encoder.refinement
            device.encoder.refinement = lambda *args, session, **names: send(
                *args, session=session ^ 1, **names
            )
            finished = await ask(device, small.image(1))
            assert device.session.link_up
            assert "session: no request is held" in str(device.last_error)
            return finished

    answer = asyncio.run(run()).answer
    assert (answer.refined, answer.degraded, answer.local) == (True, True, False)


@pytest.mark.parametrize("split", [0, 2])
def test_a_killed_server_costs_no_answer_and_is_found_again(
    start_server: Start, small: Small, split: int
) -> None:
    server = start_server(small.file)
    restarted: list[Server] = []

    async def run() -> None:
        async with device_at(small, server.address, Decision(split)) as device:
            finished = [await ask(device, small.image(0))]
            assert not finished[0].answer.degraded
            killer = threading.Timer(0.1, server.kill)
            killer.start()
            while device.session.link_up:
                finished.append(await ask(device, small.image(1)))
                await asyncio.sleep(0.005)
            assert finished[-1].answer.degraded
            gap = [await ask(device, small.image(seed)) for seed in range(20)]
            assert all(f.answer.degraded and not f.answer.offloaded and f.trip is None for f in gap)
            assert np.median([f.answer.done_s - f.start_s for f in gap]) < 0.05
            assert isinstance(device.last_error, LinkDown)
            killer.join()
            restarted.append(await asyncio.to_thread(start_server, small.file, server.address))
            serving_s = device.clock.now()
            while not device.session.link_up:
                assert device.clock.now() - serving_s < 2.0
                await ask(device, small.image(2))
                await asyncio.sleep(0.01)
            back = await ask(device, small.image(3))
            assert not back.answer.degraded
            assert back.answer.offloaded
            assert device.last_error is None

    asyncio.run(run())
    for again in restarted:
        again.end()


def test_a_frozen_server_is_waited_for_until_the_fallback_and_not_again(
    start_server: Start, small: Small
) -> None:
    server = start_server(small.file)

    async def run() -> None:
        async with device_at(small, server.address, Decision(2)) as device:
            await ask(device, small.image(0))
            server.signal(signal.SIGSTOP)
            first = await ask(device, small.image(1))
            assert first.answer.degraded
            assert first.answer.offloaded
            latency_s = first.answer.done_s - first.arrival_s
            assert latency_s > DEADLINE_S - 0.03
            second = await ask(device, small.image(2))
            assert second.answer.degraded
            assert not second.answer.offloaded
            server.signal(signal.SIGCONT)
            thawed_s = device.clock.now()
            while not device.session.link_up:
                assert device.clock.now() - thawed_s < 2.0
                await asyncio.sleep(0.01)
            assert not (await ask(device, small.image(3))).answer.degraded

    asyncio.run(run())
    server.end()


def test_another_model_at_connecting_is_refused_by_name(server: Server, other: Small, small: Small) -> None:
    async def run() -> None:
        async with device_at(other, server.address, Decision(2)) as device:
            await device.connect()

    with pytest.raises(RemoteError, match=f"runs model {small.card.id} .small., this device {other.card.id}"):
        asyncio.run(run())


def test_a_server_that_comes_back_with_another_model_gets_no_more_requests(
    start_server: Start, small: Small, other: Small
) -> None:
    address = free_address()

    async def until(condition: Callable[[], bool], step: Callable[[], Awaitable[Any]]) -> None:
        for _ in range(300):
            if condition():
                return
            await step()
            await asyncio.sleep(0.01)
        raise AssertionError("not within three seconds")

    async def run() -> None:
        first = await asyncio.to_thread(start_server, small.file, address)
        async with device_at(small, address, Decision(2)) as device:
            await device.connect()
            assert not (await ask(device, small.image(0))).answer.degraded
            first.kill()
            wrong = await asyncio.to_thread(start_server, other.file, address)

            async def step() -> None:
                await ask(device, small.image(1))

            await until(lambda: "runs model" in str(device.last_error), step)
            for _ in range(50):
                finished = await ask(device, small.image(1))
                assert finished.answer.degraded
                assert not finished.answer.offloaded
                await asyncio.sleep(0.01)
            wrong.kill()
            right = await asyncio.to_thread(start_server, small.file, address)
            await until(lambda: device.session.link_up, step)
            assert not (await ask(device, small.image(2))).answer.degraded
            right.end()

    asyncio.run(run())


def test_what_cannot_be_encoded_is_answered_here(server: Server, small: Small) -> None:
    async def run() -> None:
        async with device_at(small, server.address, Decision(2), head=_Broken(small)) as device:
            answer = (await ask(device, small.image(0))).answer
            assert answer.local
            assert answer.degraded
            assert device.session.link_up
            assert "finite" in str(device.last_error)

    asyncio.run(run())


def test_an_encoder_too_slow_to_send_in_time_is_no_lost_link(
    server: Server, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with device_at(small, server.address, Decision(2)) as device:
            await ask(device, small.image(0))
            quick = device.encoder.request

            def slow(*arguments: Any, **options: Any) -> Any:
                time.sleep(DEADLINE_S - 0.01)
                return quick(*arguments, **options)

            monkeypatch.setattr(device.encoder, "request", slow)
            finished = await ask(device, small.image(1))
            assert finished.answer.degraded
            assert finished.answer.offloaded
            assert device.session.link_up
            # Nothing was sent, and nothing is charged for it.
            assert finished.trip is None
            assert finished.costs.airtime_up_s == 0.0
            assert "no time was left" in str(device.last_error)

    asyncio.run(run())


def test_a_refinement_too_slow_to_send_in_time_is_not_charged(
    server: Server, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with device_at(small, server.address, REFINED) as device:
            whole = (await ask(device, small.image(0))).trip
            quick = device.encoder.refinement

            def slow(*arguments: Any, **options: Any) -> Any:
                time.sleep(DEADLINE_S)
                return quick(*arguments, **options)

            monkeypatch.setattr(device.encoder, "refinement", slow)
            (finished,) = await device.serve_batch([small.image(0)], device.clock.now())
            answer = finished.answer
            assert (answer.refined, answer.degraded, answer.local) == (True, True, False)
            assert whole is not None
            assert finished.trip is not None
            assert finished.trip.uplink_bytes < whole.uplink_bytes
            assert math.isfinite(finished.costs.energy_j)

    asyncio.run(run())


def test_connecting_to_nobody_answers_locally(small: Small) -> None:
    async def run() -> None:
        async with device_at(small, free_address(), Decision(2)) as device:
            await device.connect()
            assert not device.session.link_up
            assert (await ask(device, small.image(0))).answer.degraded

    asyncio.run(run())
