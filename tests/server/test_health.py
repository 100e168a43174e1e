"""Health checking: what is said of which service, when it changes, and that nobody is held up by who watches."""

import asyncio
import signal
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from splitpoint.protos.options import SERVICE
from splitpoint.server.health import HEALTH, HealthService

from .stalled import Stalled

STATUS = health_pb2.HealthCheckResponse


def asking(scenario):
    """The scenario with a HealthService and a stub that asks it."""

    async def main():
        health, server = HealthService(SERVICE), grpc.aio.server()
        server.add_generic_rpc_handlers((health.handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                return await scenario(health, health_pb2_grpc.HealthStub(channel))
            finally:
                await server.stop(0)

    return asyncio.run(main())


def test_the_server_and_its_services_have_one_health_and_others_none():
    async def scenario(health, stub):
        async def status(name):
            return (await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status

        found = [await status(""), await status(SERVICE)]
        health.set(True)
        found += [await status(""), await status(SERVICE)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status("elsewhere")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        return found

    assert asking(scenario) == [STATUS.NOT_SERVING] * 2 + [STATUS.SERVING] * 2


def test_who_watches_is_told_at_once_and_of_every_change():
    async def scenario(health, stub):
        known = stub.Watch(health_pb2.HealthCheckRequest(), timeout=5)
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="elsewhere"), timeout=5)
        found = [(await known.read()).status, (await unknown.read()).status]
        for serving in (True, True, False):
            health.set(serving)
            await asyncio.sleep(0.05)
        found += [(await known.read()).status for _ in range(2)]
        known.cancel()
        unknown.cancel()
        return found

    assert asking(scenario) == [
        STATUS.NOT_SERVING, STATUS.SERVICE_UNKNOWN, STATUS.SERVING, STATUS.NOT_SERVING
    ]  # fmt: skip


def test_a_watcher_that_never_reads_does_not_keep_the_server_from_ending(small, start):
    server = start(grace_s=0.2)
    with Stalled(server.address) as client:
        client.call(f"/{HEALTH}/Watch")
        client.call(f"/{HEALTH}/Check")
        time.sleep(0.5)  # until the calls have begun
        server.popen.send_signal(signal.SIGTERM)
        assert server.popen.wait(10.0) == 0
    assert server.log() == ""


def test_who_watches_when_the_server_ends_leaves_nothing_in_its_log(small, start):
    server = start(grace_s=0.2)

    async def main():
        async with grpc.aio.insecure_channel(server.address) as channel:
            calls = [
                health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()) for _ in range(5)
            ]
            for call in calls:
                await call.read()
            server.popen.send_signal(signal.SIGTERM)
            return await asyncio.to_thread(server.popen.wait, 10.0)

    assert asyncio.run(main()) == 0
    assert server.log() == ""
