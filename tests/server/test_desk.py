"""A request on which the server itself fails costs that request and nothing else."""

import asyncio

import grpc
import numpy as np
import pytest

from splitpoint.codec.tokens import TokenCodec
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import Refused, ServiceClient
from splitpoint.server.engine import Engine
from splitpoint.server.tail import TorchTail


def test_a_failure_on_arrival_is_the_servers_and_the_stream_goes_on(small, in_loop, caplog):
    # A map of bottleneck dims that lacks its matrices, which is found out at the first request at its cut.
    arrays = {"codec.2.mean": np.zeros(small.card.dim, np.float32)}
    codec = TokenCodec(arrays, dim=small.card.dim, max_tokens=small.card.patch_tokens + 1)
    engine = Engine(small.card, codec, TorchTail(small.network, small.card))

    async def main():
        async with in_loop(engine) as address, ServiceClient(address) as client:
            call = client.channel.stream_stream("/splitpoint.v1.SplitInference/InferStream")()
            replies = []
            for number, cut in ((1, 2), (2, 1)):
                await call.write(small.request(number, cut=cut).SerializeToString())
                replies.append(pb.InferReply.FromString(await asyncio.wait_for(call.read(), 20.0)))
            with pytest.raises(Refused) as refused:
                await client.infer(small.request(3, cut=2))
            return *replies, refused.value

    broken, good, refused = asyncio.run(main())
    assert (broken.request_id, broken.error.code) == (1, grpc.StatusCode.INTERNAL.value[0])
    assert (good.request_id, good.HasField("error")) == (2, False)
    assert refused.code is grpc.StatusCode.INTERNAL
    for text in (broken.error.message, str(refused)):
        assert "its log says why" in text
    assert caplog.text.count("the model's codec arrays lack codec.2.down, codec.2.up") == 2
