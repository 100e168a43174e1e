"""PolicyService over a real server in this process: the policies' own Decisions, kept apart, and unbreakable."""

import asyncio
import math
import threading
from contextlib import asynccontextmanager

import grpc
import pytest

from splitpoint.channel.config import ChannelConfig
from splitpoint.channel.emulator import Emulator
from splitpoint.policies.decision import Decision
from splitpoint.policies.wire import read_decision
from splitpoint.protos.client import Refused, ServiceClient
from splitpoint.server.deciding import MOST_POLICIES, PolicyDesk
from splitpoint.server.engine import Parts

from .deciding_parts import CARD, CODE, SAFE, SEEN, Sensitive, asking, decided, run, scenes, source, telling


def test_decisions_are_those_of_the_policy_in_process(in_loop):
    async def scenario(client):
        untold, found = [], []
        for number, (seen, outcome) in enumerate(scenes(40)):
            found.append(
                await decided(client, asking(observation=seen, outcomes=untold, first=number - len(untold)))
            )
            untold = [outcome]
            if number % 4 == 0:
                assert (await client.learn(telling(untold, number))).outcomes == number + 1
                untold = []
        return found

    policy = Sensitive()
    policy.reset(5)
    wanted = []
    for seen, outcome in scenes(40):
        wanted.append(policy.decide(seen))
        policy.learn(outcome)
    assert run(scenario, in_loop, source()) == wanted
    assert len({decision.keep for decision in wanted}) > 20


def test_sessions_and_devices_share_nothing(in_loop):
    def alone(**name):
        async def scenario(client):
            return [await decided(client, asking(observation=seen, **name)) for seen, _ in scenes(10)]

        return scenario

    async def mixed(client):
        names = [{"device": "0"}, {"device": "1"}, {"session": "t"}]
        found = [
            [await decided(client, asking(observation=seen, **name)) for name in names]
            for seen, _ in scenes(10)
        ]
        return list(map(list, zip(*found, strict=True)))

    wanted = run(alone(), in_loop, source())
    assert run(mixed, in_loop, source()) == [wanted] * 3


def test_each_device_gets_a_policy_made_for_it(in_loop):
    made = []

    def make(device):
        made.append(device)
        return Sensitive()

    async def scenario(client):
        for device in ("7", "camera", ""):
            for _ in range(2):
                await client.decide(asking(device=device))

    run(scenario, in_loop, source(make))
    assert made == ["7", "camera", "0"]  # the last by the metadata


def test_an_outcome_told_twice_is_learned_once(in_loop):
    (seen, first), (_, second), (_, third) = scenes(3)

    async def scenario(client):
        await client.learn(telling([first], 0))
        await client.learn(telling([first, second], 0))
        # One that was told long ago, and comes again, takes nothing back.
        assert (await client.learn(telling([first], 0))).outcomes == 2
        assert (await client.learn(telling([second], 1))).outcomes == 2
        return await decided(client, asking(observation=seen, outcomes=[first, second, third]))

    policy = Sensitive()
    policy.reset(5)
    for outcome in (first, second, third):
        policy.learn(outcome)
    assert run(scenario, in_loop, source()) == policy.decide(seen)


def test_a_fresh_policy_learns_all_that_it_is_told_of_a_session_that_is_older(in_loop):
    outcomes = [outcome for _, outcome in scenes(3)]

    async def scenario(client):
        assert (await client.learn(telling(outcomes, 1))).outcomes == 4
        return await decided(client, asking())

    policy = Sensitive()
    policy.reset(5)
    for outcome in outcomes:
        policy.learn(outcome)
    assert run(scenario, in_loop, source()) == policy.decide(SEEN)


def test_the_policy_that_was_not_asked_for_longest_is_forgotten(in_loop):
    made = []

    async def main():
        desk = PolicyDesk(source(lambda device: made.append(device) or Sensitive()), most=2)
        for device in ("a", "b", "a", "c", "a", "b"):
            await desk.tell(device, "s", [], 0, SEEN)
        desk.close()

    asyncio.run(main())
    assert made == ["a", "b", "c", "b"]


def test_a_crowd_of_sessions_is_bounded_and_complained_of_once(caplog):
    async def main():
        desk = PolicyDesk(source())
        for number in range(2 * MOST_POLICIES):
            await desk.tell("0", str(number), [], 0, SEEN)
        desk.close()
        return len(desk._policies)

    assert asyncio.run(main()) == MOST_POLICIES
    assert [message for message in caplog.messages if "forgotten" in message] == [
        "policy sensitive: more than 256 sessions; the one that was not asked for longest is forgotten each time"
    ]


class Bad:
    def __init__(self, act):
        self.decide = act

    def learn(self, outcome):
        raise ValueError("learn")

    def reset(self, seed):
        pass


def fails(_):
    raise ZeroDivisionError


def exits(_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "act",
    [
        fails,
        exits,
        lambda _: None,
        lambda _: Decision(2, exit_margin=math.nan),
        lambda _: Decision(2, keep=float("nan")),
        lambda _: Decision(CARD.depth + 1),
        lambda _: Decision(2, dims=CARD.dim + 1),
    ],
    ids=["raises", "interrupts", "none", "nan", "nan-keep", "too-deep", "too-wide"],
)
def test_a_bad_policy_is_replaced_by_the_safe_default(in_loop, act, caplog):
    ((_, outcome),) = scenes(1)

    async def scenario(client):
        for number in range(2):
            reply = await client.decide(asking(outcomes=[outcome], first=number), 5.0)
            assert reply.replaced
            assert read_decision(reply.decision, CARD) == SAFE

    run(scenario, in_loop, source(lambda _: Bad(act)))
    assert "policy sensitive: learning: ValueError: learn" in caplog.text


def test_a_policy_that_cannot_be_made_is_replaced_too(in_loop):
    async def scenario(client):
        assert (await client.decide(asking(), 5.0)).replaced

    run(scenario, in_loop, source(fails))


def test_a_policy_that_hangs_costs_a_wait_and_no_answer():
    release, decisions = threading.Event(), []
    ((_, outcome),) = scenes(1)

    def hangs(seen):
        decisions.append(seen)
        release.wait(20)
        return Decision(0)

    async def main():
        desk = PolicyDesk(source(lambda _: Bad(hangs)), limit_s=0.05, max_pending=2)
        try:
            for _ in range(2):
                assert await desk.tell("0", "s", [outcome], 3, SEEN) == (SAFE, True, 4)
            # Both still lie with the thread.
            with pytest.raises(Exception, match="queue full: 2") as refused:
                await desk.tell("0", "s", [], 0, SEEN)
            assert refused.value.code is CODE.RESOURCE_EXHAUSTED
        finally:
            release.set()
        # What was told is learned; who no longer waits is not decided for.
        while desk._pending:
            await asyncio.sleep(0.005)
        desk.close()

    asyncio.run(main())
    assert decisions == [SEEN]


def test_a_server_says_whether_it_decides(in_loop):
    async def named(client):
        return (await client.describe()).policy

    async def refused(client):
        assert not (await client.describe()).policy
        for call in (client.decide(asking()), client.learn(telling([], 0))):
            with pytest.raises(Refused, match="one started with serve --policy does") as caught:
                await call
            assert caught.value.code is CODE.UNIMPLEMENTED

    assert run(named, in_loop, source()) == "sensitive"
    run(refused, in_loop)


@asynccontextmanager
async def emulated(upstream):
    """The emulator before a server, in this loop; its address."""
    link = {"kind": "constant", "rate_bps": 1e6, "round_trip_s": 0.02}
    emulator = Emulator(ChannelConfig.model_validate({"links": [link]}), upstream, 0)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((emulator.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0.0)
        await emulator.close()


def test_the_emulator_relays_it_as_it_is(in_loop):
    (seen, outcome), (later, _) = scenes(2)

    async def main():
        async with (
            in_loop(Parts(), policies=source()) as address,
            emulated(address) as near,
            ServiceClient(near, device=3) as client,
        ):
            first = await decided(client, asking(device="", observation=seen))
            assert (await client.learn(telling([outcome], 0, "t"))).outcomes == 1
            second = await decided(client, asking(device="3", observation=later, outcomes=[outcome]))
            with pytest.raises(Refused, match="session: ") as refused:
                await client.decide(asking(session=""))
            assert refused.value.code is CODE.INVALID_ARGUMENT
            return [first, second]

    policy = Sensitive()
    policy.reset(5)
    wanted = [policy.decide(seen)]
    policy.learn(outcome)
    assert asyncio.run(main()) == [*wanted, policy.decide(later)]
