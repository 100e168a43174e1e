"""PolicyService against hostile and mangled messages: refused by name, and nothing changes."""

import math

import grpc
import numpy as np
import pytest

from splitpoint.protos.client import Refused
from splitpoint.protos.options import POLICY_SERVICE

from .deciding_parts import CODE, SEEN, Sensitive, asking, decided, run, scenes, source, telling


def spoiled(**changes):
    request = asking()
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def bad_outcome(**changes):
    ((_, outcome),) = scenes(1)
    request = asking(outcomes=[outcome, outcome])
    for name, value in changes.items():
        setattr(request.outcomes[1], name, value)
    return request


def bad_observation(**changes):
    request = asking()
    for name, value in changes.items():
        setattr(request.observation, name, value)
    return request


def without_observation():
    request = asking()
    request.ClearField("observation")
    return request


HOSTILE = [
    (spoiled(protocol_version=99), CODE.FAILED_PRECONDITION, "protocol_version: 99"),
    (spoiled(model_id="0" * 16), CODE.FAILED_PRECONDITION, "model_id: "),
    (spoiled(device="x" * 65), CODE.INVALID_ARGUMENT, "device: "),
    (spoiled(session=""), CODE.INVALID_ARGUMENT, "session: "),
    (spoiled(session="x" * 100_000), CODE.INVALID_ARGUMENT, "session: "),
    (spoiled(first_outcome=2**64 - 1), CODE.INVALID_ARGUMENT, "first_outcome: "),
    (without_observation(), CODE.INVALID_ARGUMENT, "observation: is missing"),
    (bad_observation(rate_bps=math.nan), CODE.INVALID_ARGUMENT, "observation.rate_bps: "),
    (bad_observation(time_left_s=math.inf), CODE.INVALID_ARGUMENT, "observation.time_left_s: "),
    (bad_outcome(margin=7.0), CODE.INVALID_ARGUMENT, "outcomes[1].margin: "),
    (bad_outcome(cut=99), CODE.INVALID_ARGUMENT, "outcomes[1].cut: "),
    (
        asking(outcomes=[outcome for _, outcome in scenes(257)]),
        CODE.INVALID_ARGUMENT,
        "outcomes: must be at most 256",
    ),
    # Field 6, empty, as often as a message has room for.
    (b"\x32\x00" * 4_000_000, CODE.INVALID_ARGUMENT, "must have at most 262144 bytes, not 8000000"),
    (b"\xff\xff\xff", CODE.INVALID_ARGUMENT, "not a DecideRequest message"),
    (b"\x12\x02\xff\xfe", CODE.INVALID_ARGUMENT, "not a DecideRequest message"),
]


def test_hostile_messages_are_refused_by_name_and_change_nothing(in_loop):
    async def scenario(client):
        call = client.channel.unary_unary(f"/{POLICY_SERVICE}/Decide", None, None)
        first = await decided(client, asking())
        for request, code, said in HOSTILE:
            data = request if isinstance(request, bytes) else request.SerializeToString()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(data, timeout=5.0)
            assert (refused.value.code(), said in refused.value.details()) == (code, True), refused.value
        with pytest.raises(Refused, match="session: "):
            await client.learn(telling([], 0, session=""))
        return first, await decided(client, asking())

    policy = Sensitive()
    policy.reset(5)
    assert run(scenario, in_loop, source()) == (policy.decide(SEEN), policy.decide(SEEN))


def test_mangled_messages_never_break_the_server(in_loop):
    random = np.random.default_rng(11)
    ((_, outcome),) = scenes(1)
    good = asking(outcomes=[outcome]).SerializeToString()

    async def scenario(client):
        call = client.channel.unary_unary(f"/{POLICY_SERVICE}/Decide", None, None)
        codes = set()
        for _ in range(150):
            data = bytearray(good)
            for place in random.integers(0, len(data), random.integers(1, 6)).tolist():
                data[place] = int(random.integers(256))
            try:
                await call(bytes(data[: random.integers(1, len(data) + 1)]), timeout=5.0)
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
        return codes

    codes = run(scenario, in_loop, source())
    assert CODE.INVALID_ARGUMENT in codes
    assert codes <= {CODE.INVALID_ARGUMENT, CODE.FAILED_PRECONDITION}
