"""Three learner processes, one killed, one frozen: every request is answered once, in time, by those that are left."""

import asyncio
import json
import signal
import time
from itertools import combinations

import numpy as np
import pytest

from splitpoint.codec.image import decode_image
from splitpoint.policies.quorum import outcome
from splitpoint.protos.client import ServiceClient
from splitpoint.server.engine import Parts
from splitpoint.server.quorum_config import QuorumConfig

from .scripted import varied

pytestmark = pytest.mark.live

NAMES = ("one", "two", "three")
PATIENCE_S = 1.0
DEADLINE_S = 8.0


def quorum_of(small, addresses, **settings):
    places = [{"model": name, "address": addresses[name]} for name in NAMES]
    return QuorumConfig(
        learners=places, model=str(small.path), order="listed", patience_s=PATIENCE_S, probe_s=0.2, **settings
    )


async def started(start, logs=(None, None, None), **settings):
    servers = [
        asyncio.to_thread(start, learner=name, gate_log=log, **settings)
        for name, log in zip(NAMES, logs, strict=True)
    ]
    return dict(zip(NAMES, await asyncio.gather(*servers), strict=True))


def test_one_killed_and_one_frozen_of_three(small, start, in_loop):
    requests = [small.request(number, cut=0, deadline_s=DEADLINE_S) for number in range(1, 61)]
    images = [decode_image(request.image, (16, 16, 1)) for request in requests]
    replies, took_s = [], []

    async def main():
        servers = await started(start)
        config = quorum_of(small, {name: server.address for name, server in servers.items()}, alpha=0.001)
        parts = Parts(device=(small.card, small.codec))
        async with in_loop(parts, quorum=config) as address, ServiceClient(address) as client:
            stream = client.stream()

            async def ask(request):
                begun = time.monotonic()
                replies.append(await stream.infer(request, DEADLINE_S))
                took_s.append(time.monotonic() - begun)
                return replies[-1].quorum.alive

            assert [await ask(request) for request in requests[:10]] == [3] * 10
            servers["one"].end(signal.SIGKILL)
            for request in requests[10:25]:
                await ask(request)
            servers["two"].popen.send_signal(signal.SIGSTOP)
            for request in requests[25:50]:
                await ask(request)
            assert replies[-1].quorum.alive == 1
            servers["two"].popen.send_signal(signal.SIGCONT)
            port = int(servers["one"].address.rpartition(":")[2])
            await asyncio.to_thread(start, learner="one", port=port)
            end, number = time.monotonic() + 20.0, 1000
            alive = 1
            while alive < 3 and time.monotonic() < end:
                number += 1
                between = small.request(number, cut=0, deadline_s=DEADLINE_S)
                alive = (await stream.infer(between, DEADLINE_S)).quorum.alive
                await asyncio.sleep(0.05)
            assert [await ask(request) for request in requests[50:]] == [3] * 10

    asyncio.run(main())
    assert [reply.request_id for reply in replies] == list(range(1, 61))
    assert max(took_s) < DEADLINE_S
    # Only those under way when it happened had to wait for a learner that says nothing.
    assert sum(seconds >= PATIENCE_S for seconds in took_s) <= 4
    for place, reply in enumerate(replies):
        said = np.stack([varied(name)(images[place], reply.exit) for name in NAMES])
        # Whoever is left decides as they would alone.
        left = range(3) if place < 10 or place >= 50 else (1, 2) if place < 25 else (2,)
        groups = combinations(left, reply.quorum.votes)
        assert reply.prediction in {outcome(said[list(group)])[0] for group in groups}
    assert sum(reply.quorum.votes == 1 for reply in replies) >= 24


def test_cancelled_work_stops_on_the_other_machine(small, start, in_loop, tmp_path):
    """All are asked at once and two agree; what the third still had before it stops within one gate."""
    logs = [tmp_path / f"{name}.jsonl" for name in NAMES]
    own = tmp_path / "coordinator.jsonl"

    async def main():
        servers = await started(start, logs=logs, pace={"base_s": 0.02, "macs_per_s": 1e12})
        addresses = {name: server.address for name, server in servers.items()}
        config = quorum_of(small, addresses, parallel=True, statistic="confidence", confidence=0.0)
        parts = Parts(device=(small.card, small.codec))
        async with in_loop(parts, quorum=config, gate_log=own) as address, ServiceClient(address) as client:
            for number in range(1, 61):
                await client.infer(small.request(number, cut=0, deadline_s=5.0), 5.0)
            await asyncio.sleep(0.3)
            assert "Traceback" not in servers["one"].log()

    asyncio.run(main())
    ran = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    cancelled = [json.loads(line) for line in own.read_text().splitlines()]
    assert len(cancelled) > 100
    after = [
        sum(
            gate["request"] == ask["request"]
            and gate["learner"] == ask["learner"]
            and gate["ended_s"] > ask["cancelled_s"]
            for gate in ran
        )
        for ask in cancelled
    ]
    assert sum(count <= 1 for count in after) >= 0.9 * len(after)
