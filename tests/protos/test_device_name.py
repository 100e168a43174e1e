"""What a device calls itself: read from a call's metadata, whatever a stranger wrote there."""

import asyncio

import grpc
import pytest

from splitpoint.protos.device_name import DEVICE_KEY, device_name


def name_seen(metadata):
    """The name that a server reads from a call with this metadata."""

    async def named(data, context):
        return device_name(context).encode()

    async def main():
        server = grpc.aio.server()
        handlers = {"Method": grpc.unary_unary_rpc_method_handler(named)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                return await channel.unary_unary("/test/Method")(b"", metadata=metadata, timeout=5)
            finally:
                await server.stop(0)

    return asyncio.run(main()).decode()


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ((), ""),
        (((DEVICE_KEY, "17"),), "17"),
        ((("other", "3"), (DEVICE_KEY, "pump 4")), "pump 4"),
        (((DEVICE_KEY, "1"), (DEVICE_KEY, "2")), "1"),
        (((DEVICE_KEY, "9" * 5000),), "9" * 64),
    ],
)
def test_the_first_name_counts_and_of_it_so_much_as_a_number_may_have(metadata, name):
    assert name_seen(metadata) == name
