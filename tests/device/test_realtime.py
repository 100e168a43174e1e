"""The agent in real time against a real server: equal answers, measured trips, refinement, pace."""

from __future__ import annotations

import asyncio
import math

import pytest

from splitpoint.codec.tokens import TokenCodec
from splitpoint.device.head import advanced
from splitpoint.device.load import load_head
from splitpoint.models.store import load_network
from splitpoint.policies.decision import Decision
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.server.tail import TorchTail
from splitpoint.server.validation import Validator

from .conftest import Server, Small
from .real_time import REFINED, ask, device_at, make_encoder


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
                samples = validator.check(pb.InferRequest.FromString(request.SerializeToString())).decoded()
                wanted = [answer for progress in tail.run(samples) for _, answer in progress.answers][-1]
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


def test_further_tokens_are_answered_as_if_sent_at_once(server: Server, small: Small) -> None:
    async def run() -> None:
        more = Decision(2, keep=0.25, refine_keep=0.75, refine_margin=1.1)
        async with device_at(small, server.address, more) as device:
            later = [await ask(device, small.image(seed)) for seed in range(5)]
        async with device_at(small, server.address, Decision(2, keep=0.75)) as device:
            at_once = [await ask(device, small.image(seed)) for seed in range(5)]
        for two, one in zip(later, at_once, strict=True):
            assert (two.answer.refined, two.answer.degraded) == (True, False)
            # Both parts have ranges of their own: at eight bits that is almost nothing.
            assert two.answer.margin == pytest.approx(one.answer.margin, abs=0.02)

    asyncio.run(run())


def test_a_sure_server_gets_no_second_message(server: Server, small: Small) -> None:
    async def run() -> list[bool]:
        decision = Decision(2, bits=2, refine_bits=5, refine_margin=0.0)
        async with device_at(small, server.address, decision) as device:
            return [(await ask(device, small.image(seed))).answer.refined for seed in range(5)]

    assert not any(asyncio.run(run()))


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
