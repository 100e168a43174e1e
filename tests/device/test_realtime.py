"""The agent in real time against a real server: equal answers, and none lost when the server is."""

from __future__ import annotations

import asyncio
import math
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from splitpoint.clock import Clock
from splitpoint.codec.tokens import TokenCodec
from splitpoint.device.agent import Agent
from splitpoint.device.connection import agreement
from splitpoint.device.encoder import Encoder
from splitpoint.device.head import HeadState, advanced
from splitpoint.device.load import load_head
from splitpoint.device.realtime import RealTimeDevice
from splitpoint.device.session import Finished, Session
from splitpoint.errors import RemoteError
from splitpoint.models.store import load_network
from splitpoint.policies.decision import Decision
from splitpoint.policies.guard import GuardedPolicy
from splitpoint.policies.rules import Power
from splitpoint.policies.static import Static
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import LinkDown, ServiceClient
from splitpoint.server.tail import TorchTail
from splitpoint.server.validation import Validator

from .conftest import Server, Small, Start, free_address

DEADLINE_S = 0.3
TOLERANCE_S = 0.05


def make_encoder(small: Small) -> Encoder:
    card = small.card
    return Encoder(card, TokenCodec({}, dim=card.dim, max_tokens=card.patch_tokens + 1))


def make_session(small: Small, decision: Decision, block_s: float = 0.001) -> Session:
    card = small.card
    agent = Agent(card.exits, [cut * block_s for cut in range(card.depth + 1)], 0.02)
    policy = GuardedPolicy(Static(decision), card.depth, card.dim, Decision(card.depth))
    power = Power(2.5, 1.3, 0.9, 0.3)
    return Session(agent, policy, power, deadline_s=DEADLINE_S, coherence_s=0.5, battery_j=math.inf)


@asynccontextmanager
async def device_at(
    small: Small,
    address: str,
    decision: Decision,
    *,
    head: Any = None,
    block_s: float = 0.001,
    **options: Any,
) -> AsyncIterator[RealTimeDevice]:
    async with ServiceClient(address) as client:

        async def admit() -> None:
            await agreement(client, small.card, "packed", 0)

        device = RealTimeDevice(
            make_session(small, decision, block_s),
            head or load_head(small.file),
            make_encoder(small),
            client,
            Clock(),
            admit=admit,
            **options,
        )
        try:
            yield device
        finally:
            await device.close()


async def ask(device: RealTimeDevice, image: np.ndarray) -> Finished:
    finished = await device.serve(image, device.clock.now())
    assert finished.answer.done_s - finished.arrival_s <= DEADLINE_S + TOLERANCE_S
    return finished


@pytest.mark.parametrize("cut", range(4))
def test_answers_are_those_of_the_same_parts_run_in_a_row(server: Server, small: Small, cut: int) -> None:
    decision = Decision(cut, keep=0.5, dims=12, bits=4) if cut else Decision(0)
    head, encoder, codec = load_head(small.file), make_encoder(small), TokenCodec({}, dim=small.card.dim)
    validator, tail = Validator(small.card, codec), TorchTail(*load_network(small.file))

    async def run() -> None:
        async with device_at(small, server.address, decision) as device:
            for seed in range(10):
                image = small.image(seed)
                finished = await ask(device, image)
                state = advanced(head, image, None, cut) if cut else None
                request, _ = encoder.request(image, state, decision, request_id=1, deadline_s=1.0)
                sample = validator.check(pb.InferRequest.FromString(request.SerializeToString())).sample
                sample.values = sample.values if cut else image
                wanted = [answer for progress in tail.run([sample]) for _, answer in progress.answers][-1]
                answer, trip = finished.answer, finished.trip
                assert (answer.local, answer.degraded, answer.cut) == (False, False, cut)
                assert answer.margin == pytest.approx(wanted.margin, abs=1e-5)
                assert answer.prediction == wanted.prediction or wanted.margin < 1e-4
                assert trip.uplink_bytes == request.ByteSize()
                assert trip.downlink_bytes == encoder.reply_bytes

    asyncio.run(run())


def test_a_trip_without_a_modem_is_measured(server: Server, small: Small) -> None:
    async def run() -> None:
        async with device_at(small, server.address, Decision(2)) as device:
            first, second = [await ask(device, small.image(seed)) for seed in (1, 2)]
        trip = first.trip
        elapsed_s = first.answer.done_s - trip.sent_s
        assert 0.0 < trip.server_s < elapsed_s
        assert trip.uplink_s + trip.server_s + trip.downlink_s == pytest.approx(elapsed_s, abs=2e-3)
        assert trip.airtime_up_s > trip.airtime_down_s > 0.0
        assert math.isfinite(first.costs.energy_j)
        assert math.isnan(first.observation.rate_bps)
        believed = 8.0 * trip.uplink_bytes / (trip.uplink_s + trip.downlink_s)
        assert second.observation.rate_bps == pytest.approx(believed, rel=0.5)
        assert math.isnan(second.observation.snr_db)

    asyncio.run(run())


REFINED = Decision(2, bits=2, refine_bits=5, refine_margin=1.1)


def test_what_the_server_asks_for_is_sent_and_the_answer_is_that_of_all_at_once(
    server: Server, small: Small
) -> None:
    async def run() -> None:
        async with device_at(small, server.address, REFINED) as device:
            refined = [await ask(device, small.image(seed)) for seed in range(5)]
        async with device_at(small, server.address, Decision(2, bits=5)) as device:
            at_once = [await ask(device, small.image(seed)) for seed in range(5)]
        async with device_at(small, server.address, Decision(2, bits=2)) as device:
            coarse = [await ask(device, small.image(seed)) for seed in range(5)]
        for two, one, less in zip(refined, at_once, coarse, strict=True):
            assert (two.answer.refined, one.answer.refined) == (True, False)
            assert not two.answer.degraded
            assert two.answer.prediction == one.answer.prediction
            assert two.answer.margin == pytest.approx(one.answer.margin, abs=1e-5)
            # 17 tokens of 24 dims in three planes of two bytes overhead, and a header of known size.
            further = two.trip.uplink_bytes - less.trip.uplink_bytes
            planes = one.trip.uplink_bytes - less.trip.uplink_bytes
            assert 3 * (51 + 2) <= planes < further < planes + 80
            assert two.trip.airtime_up_s > 0.0

    asyncio.run(run())


def test_a_sure_server_gets_no_second_message(server: Server, small: Small) -> None:
    async def run() -> list[bool]:
        decision = Decision(2, bits=2, refine_bits=5, refine_margin=0.0)
        async with device_at(small, server.address, decision) as device:
            return [(await ask(device, small.image(seed))).answer.refined for seed in range(5)]

    assert not any(asyncio.run(run()))


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


def test_a_paced_device_takes_the_time_that_it_should(server: Server, small: Small) -> None:
    async def run() -> None:
        async with device_at(small, server.address, Decision(4), paced=True, block_s=0.02) as device:
            took_s = []
            for seed in range(5):
                finished = await ask(device, small.image(seed))
                assert finished.answer.cut == 4
                took_s.append(finished.answer.done_s - finished.start_s)
            # Never too fast; a busy machine may make some of them slow.
            assert 0.08 <= min(took_s) <= 0.082

    asyncio.run(run())


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
            answer = (await ask(device, small.image(1))).answer
            assert answer.degraded
            assert answer.offloaded
            assert device.session.link_up

    asyncio.run(run())


def test_connecting_to_nobody_answers_locally(small: Small) -> None:
    async def run() -> None:
        async with device_at(small, free_address(), Decision(2)) as device:
            await device.connect()
            assert not device.session.link_up
            assert (await ask(device, small.image(0))).answer.degraded

    asyncio.run(run())
