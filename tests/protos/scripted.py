"""Small servers, written for each test."""

import grpc

from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.options import SERVICE, server_options


class Server:
    """A grpc.aio server with the given handlers of SplitInference."""

    def __init__(self, *, credentials=None, port=0, **methods):
        self._server = grpc.aio.server(options=server_options())
        handlers = {
            name: (
                grpc.stream_stream_rpc_method_handler(method)
                if name == "InferStream"
                else grpc.unary_unary_rpc_method_handler(method)
            )
            for name, method in methods.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        where = f"127.0.0.1:{port}"
        add = self._server.add_insecure_port
        self.port = add(where) if credentials is None else self._server.add_secure_port(where, credentials)
        self.address = f"127.0.0.1:{self.port}"

    async def __aenter__(self):
        await self._server.start()
        return self

    async def __aexit__(self, *_):
        await self._server.stop(0)


def request(number):
    return pb.InferRequest(request_id=number)


def reply(number, **fields):
    return pb.InferReply(request_id=number, **fields).SerializeToString()


async def answer_each(requests, context):
    async for data in requests:
        number = pb.InferRequest.FromString(data).request_id
        await context.write(reply(number, prediction=number))
