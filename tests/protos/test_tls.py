"""The client over TLS: whom it trusts, how it proves itself, and what is said where that fails."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from splitpoint.errors import DataError, UsageError
from splitpoint.protos.client import CertificateError, LinkDown, ServiceClient, Timeouts, Tls, connect
from splitpoint.protos.failures import from_status

from .scripted import Server, answer_each, reply, request

CERTS = Path(__file__).parent / "certs"


def credentials(client_root=None):
    pair = ((CERTS / "server.key").read_bytes(), (CERTS / "server.pem").read_bytes())
    root = client_root and client_root.read_bytes()
    return grpc.ssl_server_credentials([pair], root, require_client_auth=root is not None)


def infer_over(tls, client_root=None):
    async def infer(data, context):
        return reply(5)

    async def main():
        async with (
            Server(Infer=infer, InferStream=answer_each, credentials=credentials(client_root)) as server,
            ServiceClient(server.address, tls=tls) as client,
        ):
            return (await client.infer(request(5), 3.0)).request_id, (
                await client.stream().infer(request(6), 3.0)
            ).prediction

    return asyncio.run(main())


def test_tls_with_a_trusted_root_and_another_name():
    assert infer_over(Tls(root=CERTS / "ca.pem", server_name="splitpoint.test")) == (5, 6)


def test_tls_where_the_client_must_prove_itself():
    tls = Tls(
        root=CERTS / "ca.pem",
        certificate=CERTS / "client.pem",
        key=CERTS / "client.key",
        server_name="splitpoint.test",
    )
    assert infer_over(tls, client_root=CERTS / "ca.pem") == (5, 6)


@pytest.mark.parametrize(
    "tls",
    [
        Tls(root=CERTS / "other.pem", server_name="splitpoint.test"),
        Tls(root=CERTS / "ca.pem", server_name="elsewhere.test"),
    ],
    ids=["untrusted root", "wrong name"],
)
def test_a_wrong_certificate_is_said_to_be_one_at_once(tls):
    start = time.monotonic()
    with pytest.raises(CertificateError, match="no trusted TLS connection"):
        infer_over(tls)
    assert time.monotonic() - start < 3.0


@pytest.mark.parametrize("hangs", [False, True], ids=["hangs up", "says nothing"])
def test_a_tls_server_that_breaks_off_the_handshake_is_a_link_that_is_down(hangs):
    """One that is frozen, or that a proxy stands before while it is started again: it may be back soon."""
    held = []

    async def accept(reader, writer):
        held.append(writer)
        if not hangs:
            writer.close()

    async def main():
        listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        timeouts = Timeouts(attempt=0.3)
        try:
            async with ServiceClient(
                f"127.0.0.1:{port}", tls=Tls(CERTS / "ca.pem"), timeouts=timeouts
            ) as client:
                with pytest.raises(LinkDown, match="not reachable"):
                    await client.describe(5.0)
        finally:
            for writer in held:
                writer.close()
            listener.close()

    asyncio.run(main())


def test_a_host_s_name_says_nothing_of_certificates():
    details = "errors resolving tls-handshake.test:50051: Domain name not found"
    found = from_status(grpc.StatusCode.UNAVAILABLE, details, "tls-handshake.test:50051")
    assert type(found) is LinkDown


def test_tls_files_are_checked_before_anything_is_sent(tmp_path):
    with pytest.raises(UsageError, match="key"):
        Tls(certificate=CERTS / "client.pem").credentials()
    with pytest.raises(DataError, match="absent"):
        connect("127.0.0.1:1", tls=Tls(root=tmp_path / "absent.pem"))
    with pytest.raises(DataError, match=r"server\.key has no PEM certificate to trust"):
        Tls(root=CERTS / "server.key").credentials()
    with pytest.raises(DataError, match=r"client\.pem and .*server\.key are no PEM certificate"):
        Tls(certificate=CERTS / "client.pem", key=CERTS / "server.key").credentials()
