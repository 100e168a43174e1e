"""The server as a process: what it says, how it ends, how it comes back."""

import asyncio
import signal
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from splitpoint.errors import DataError, RemoteError, UsageError
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import CertificateError, LinkDown, Refused, ServiceClient, TimedOut, Tls
from splitpoint.server.config import ServerConfig
from splitpoint.server.engine import Engine
from splitpoint.server.serve import serve
from splitpoint.server.tail import TorchTail
from splitpoint.server.validation import Validator

from ..quiet import judged

CERTS = Path(__file__).parent.parent / "protos" / "certs"


def test_it_says_where_it_listens_and_what_it_serves(small, served):
    assert served.first_line.startswith("listening on 127.0.0.1:")

    async def main():
        async with ServiceClient(served.address) as client:
            assert await client.health()
            return await client.describe()

    found = asyncio.run(main())
    assert found.model == small.card.to_message()
    assert list(found.payloads) == [pb.PAYLOAD_KIND_IMAGE, pb.PAYLOAD_KIND_TOKENS]
    assert pb.CODER_PACKED in found.coders
    assert found.limits.max_pending > 0


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_answers_over_the_wire_are_the_tails(small, served, cut):
    validator = Validator(small.card, small.codec)

    async def main():
        async with ServiceClient(served.address) as client:
            stream = client.stream()
            requests = [small.request(number, cut=cut, margin=0.2) for number in range(1, 25)]
            streamed = await asyncio.gather(*(stream.infer(request, 20.0) for request in requests))
            return requests, streamed, await client.infer(requests[0])

    requests, streamed, unary = asyncio.run(main())
    tail = TorchTail(small.network, small.card)
    for request, reply in zip(requests, streamed, strict=True):
        checked = validator.check(request)
        [answer] = [answer for step in tail.run(checked.decoded()) for _, answer in step.answers]
        assert (reply.request_id, reply.prediction, reply.exit) == (
            request.request_id,
            answer.prediction,
            answer.exit,
        )
        assert reply.margin == pytest.approx(answer.margin, abs=1e-5)
        assert 0 < reply.server_s < 20
        assert reply.HasField("load")
    assert (unary.prediction, unary.exit) == (streamed[0].prediction, streamed[0].exit)


def test_methods_that_are_not_there_yet_say_so(served):

    async def main():
        async with ServiceClient(served.address) as client:
            with pytest.raises(Refused, match="one started with serve --train does") as caught:
                await client.train_step(pb.TrainStepRequest())
            assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
            with pytest.raises(Refused, match="RunGates"):
                async for _ in client.run_gates(pb.RunGatesRequest()):
                    pass

    asyncio.run(main())


def test_reflection_lists_the_service(served):
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async def main():
        async with grpc.aio.insecure_channel(served.address) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            ask = reflection_pb2.ServerReflectionRequest(list_services="")
            call = stub.ServerReflectionInfo(iter([ask]), timeout=5)
            return [service.name for service in (await call.read()).list_services_response.service]

    assert "splitpoint.v1.SplitInference" in asyncio.run(main())


def test_another_model_is_refused_on_the_stream_and_it_goes_on(small, served):

    async def main():
        async with ServiceClient(served.address) as client:
            stream = client.stream()
            wrong = small.request(1)
            wrong.model_id = "0" * 16
            with pytest.raises(Refused, match=small.card.id) as caught:
                await stream.infer(wrong, 5.0)
            assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
            await stream.infer(small.request(2), 5.0)

    asyncio.run(main())


def test_sigterm_drains_a_loaded_server_without_a_failure(small, start):
    def run():
        # Slow enough that requests are always waiting when the signal comes.
        server = start(pace={"base_s": 0.02, "macs_per_s": 1e12}, max_batch=4)
        answered, refused, failed = [], [], []

        async def device(index, streams):
            async with ServiceClient(server.address, device=index) as client:
                stream, number = client.stream(), index * 10_000
                while True:
                    number += 1
                    try:
                        if streams:
                            await stream.infer(small.request(number, seed=1), 10.0)
                        else:
                            await client.infer(small.request(number, seed=1), 10.0)
                        answered.append(number)
                    except LinkDown:
                        # Only a server that is gone may refuse, never one that has the request.
                        refused.append(number)
                        return
                    except RemoteError as error:
                        failed.append(repr(error))
                        return

        async def main():
            devices = [asyncio.create_task(device(i, streams=i % 4 != 0)) for i in range(1, 17)]
            await asyncio.sleep(1.0)
            before = len(answered)
            server.popen.send_signal(signal.SIGTERM)
            start_s = time.monotonic()
            await asyncio.gather(*devices)
            return before, time.monotonic() - start_s

        before, took_s = asyncio.run(main())
        assert server.end() == 0
        assert failed == []
        assert len(refused) == 16  # each device once, on its first request after the end of its stream
        assert "Traceback" not in server.log()
        return before, took_s, len(answered)

    def judge(found):
        before, took_s, answered = found
        assert before > 50
        assert answered >= before + 15  # what was in flight at the signal was answered
        assert took_s < 3.0

    judged(run, judge)


def test_health_turns_to_not_serving_while_the_server_drains(small, start):
    server = start(pace={"base_s": 0.3, "macs_per_s": 1e12}, grace_s=3.0)

    async def main():
        async with ServiceClient(server.address) as client:
            assert await client.health()
            pending = asyncio.create_task(client.stream().infer(small.request(1), 10.0))
            await asyncio.sleep(0.1)
            server.popen.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.1)
            stub = health_pb2_grpc.HealthStub(client.channel)
            found = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
            await pending
            return found.status

    assert asyncio.run(main()) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert server.end() == 0


def test_a_client_that_ignores_the_shutdown_is_hung_up_on_after_the_grace(small, start):
    server = start(grace_s=0.3)

    async def main():
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = channel.stream_stream("/splitpoint.v1.SplitInference/InferStream")()
            await call.write(small.request(1).SerializeToString())
            await call.read()
            server.popen.send_signal(signal.SIGTERM)
            notice = pb.InferReply.FromString(await call.read())
            assert notice.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
            assert not notice.HasField("request_id")
            await call.write(small.request(2).SerializeToString())
            assert pb.InferReply.FromString(await call.read()).request_id == 2
            return await call.code()

    assert asyncio.run(main()) is grpc.StatusCode.UNAVAILABLE
    assert server.end() == 0


def test_after_kill_9_it_comes_back_on_the_same_port_and_clients_find_it(small, start):
    server = start()
    port = int(server.address.rpartition(":")[2])

    async def main():
        async with ServiceClient(server.address) as client:
            stream = client.stream()
            await stream.infer(small.request(1), 5.0)
            server.end(signal.SIGKILL)
            with pytest.raises(LinkDown):
                await stream.infer(small.request(2), 5.0)
            await asyncio.to_thread(start, port=port)
            since = time.monotonic()
            while True:
                try:
                    await stream.infer(small.request(3), 5.0)
                    return time.monotonic() - since
                except LinkDown:
                    await asyncio.sleep(0.02)

    assert asyncio.run(main()) < 2.0


def test_a_frozen_server_costs_the_deadline_and_is_found_again(small, start):
    def run():
        return asyncio.run(_frozen(small, start()))

    def judge(found):
        waits_s, back_s = found
        assert max(waits_s) < 0.3
        assert back_s < 2.0

    judged(run, judge)


async def _frozen(small, server):
    """Seconds that each request to a frozen server took, and that it took to answer again."""
    waits_s = []
    async with ServiceClient(server.address) as client:
        stream = client.stream()
        await stream.infer(small.request(1), 5.0)
        server.popen.send_signal(signal.SIGSTOP)
        for number in range(2, 22):
            since = time.monotonic()
            with pytest.raises((TimedOut, LinkDown)):
                await stream.infer(small.request(number), 0.2)
            waits_s.append(time.monotonic() - since)
        server.popen.send_signal(signal.SIGCONT)
        since = time.monotonic()
        while True:
            try:
                await stream.infer(small.request(99), 0.5)
                return waits_s, time.monotonic() - since
            except (LinkDown, TimedOut):
                await asyncio.sleep(0.02)


def test_a_deadline_that_passes_in_the_queue_is_not_computed(small, start):
    server = start(pace={"base_s": 0.5, "macs_per_s": 1e12})

    async def main():
        async with ServiceClient(server.address) as client:
            stream = client.stream()
            first = asyncio.create_task(stream.infer(small.request(1, cut=3), 10.0))
            await asyncio.sleep(0.1)
            with pytest.raises(TimedOut, match="deadline_s"):
                await stream.infer(small.request(2, cut=3, deadline_s=0.05), 10.0)
            await first

    asyncio.run(main())


def test_a_taken_port_is_one_clear_line(small, served):
    port = int(served.address.rpartition(":")[2])
    engine = Engine.of(small.card, TorchTail(small.network, small.card))
    with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
        asyncio.run(serve(ServerConfig(port=port), engine))


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"certificate": "ca.pem", "key": "server.key"}, "ca.pem and .*server.key are no PEM certificate"),
        ({"certificate": "client.key", "key": "client.key"}, "client.key are no PEM certificate"),
        (
            {"certificate": "server.pem", "key": "server.key", "client_root": "server.key"},
            "server.key has no PEM certificate to trust",
        ),
        ({"certificate": "none.pem", "key": "server.key"}, "cannot read .*none.pem: No such file"),
    ],
)
def test_certificates_that_are_none_are_one_clear_line(small, files, text):
    config = ServerConfig(port=0, **{name: CERTS / file for name, file in files.items()})
    engine = Engine.of(small.card, TorchTail(small.network, small.card))
    with pytest.raises(DataError, match=text):
        asyncio.run(serve(config, engine))


def test_tls_serves_those_who_trust_it(small, start):
    server = start(certificate=CERTS / "server.pem", key=CERTS / "server.key", client_root=CERTS / "ca.pem")
    good = Tls(
        root=CERTS / "ca.pem",
        certificate=CERTS / "client.pem",
        key=CERTS / "client.key",
        server_name="splitpoint.test",
    )
    bad = Tls(root=CERTS / "other.pem", server_name="splitpoint.test")

    async def main():
        async with ServiceClient(server.address, tls=good) as client:
            await client.stream().infer(small.request(1), 5.0)
        async with ServiceClient(server.address, tls=bad) as client:
            with pytest.raises(CertificateError):
                await client.stream().infer(small.request(1), 5.0)
            with pytest.raises(CertificateError):
                await client.health()
        # Without a certificate of its own the client is turned away.
        async with ServiceClient(server.address, tls=Tls(good.root, server_name="splitpoint.test")) as client:
            with pytest.raises(RemoteError):
                await client.infer(small.request(1))

    asyncio.run(main())
