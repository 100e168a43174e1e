"""How much the real client and server add to gRPC: p50 of a stream Infer over a bare stream echo.

Both servers are processes of their own, this one is the client. The tail answers at once, so what is
compared is serialisation, validation, CRC, decoding, queueing and correlation. Short rounds of the two alternate,
so that a busy machine slows both; a size's figure is the median over the rounds of the ratio of the medians.

    echo       a bare grpc.aio stream: bytes up, the same bytes back
    one way    the same, but the reply has the size of an InferReply (not the bar; shown for honesty)
    infer      ServiceClient.stream().infer against `serve`, whose tail asks for the tokens and so has them decoded
    undecoded  the same with a tail that never looks at its tokens: what the calls alone cost (not the bar)

    python benchmarks/rpc_overhead.py [--rounds 40] [--calls 50]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import grpc
import numpy as np

from splitpoint.codec.requests import build_request
from splitpoint.codec.tokens import TokenCodec
from splitpoint.models.card import ModelCard
from splitpoint.protos.client import ServiceClient
from splitpoint.server.config import ServerConfig
from splitpoint.server.engine import Engine
from splitpoint.server.serve import main as serve_main
from splitpoint.server.work import Answer, Progress, Sample

SIZES = {"12 KB": (65, 192), "50 KB": (257, 192)}
REPLY_BYTES = 45
METHOD = "/bare.Echo/Run"


class InstantTail:
    """Answers 0 with margin 1, at once; `decodes`: having asked for the tokens."""

    def __init__(self, decodes: bool = True) -> None:
        self._decodes = decodes

    def run(self, samples: Sequence[Sample]) -> Iterator[Progress]:
        if self._decodes:
            assert all(sample.values.size for sample in samples)
        yield Progress(len(samples), 0, [(place, Answer(0, 1.0, 0)) for place in range(len(samples))])


def card(tokens: int, dim: int) -> ModelCard:
    side = round((tokens - 1) ** 0.5)
    return ModelCard(
        name="instant", id="0" * 16, image_size=(side, side), channels=1, classes=("a", "b"), mean=(0.5,),
        std=(0.5,), patch=1, dim=dim, depth=2, heads=1, exits=(2,), exit_state_dim=4,
    )  # fmt: skip


def serve_instant(tokens: int, dim: int, decodes: bool) -> None:
    serve_main(ServerConfig(port=0), Engine.of(card(tokens, dim), InstantTail(decodes)))


async def serve_echo() -> None:
    async def run(_requests: object, context: grpc.aio.ServicerContext) -> None:
        while isinstance(data := await context.read(), bytes):
            await context.write(data)

    async def one_way(_requests: object, context: grpc.aio.ServicerContext) -> None:
        while isinstance(data := await context.read(), bytes):
            await context.write(data[:REPLY_BYTES])

    handlers = {
        "Run": grpc.stream_stream_rpc_method_handler(run),
        "OneWay": grpc.stream_stream_rpc_method_handler(one_way),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--role", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


async def p50(call: Callable[[], Awaitable[object]], calls: int) -> float:
    times = []
    for _ in range(calls):
        start_s = time.perf_counter()
        await call()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times)


async def measure(tokens: int, dim: int, rounds: int, calls: int) -> dict[str, float]:
    values = np.random.default_rng(0).standard_normal((tokens, dim)).astype(np.float32)
    message, _ = TokenCodec({}, dim=dim).encode(values, None, 1)
    request = build_request(
        model_id="0" * 16, request_id=1, cut=1, deadline_s=1.0, exit_margin=0.5, payload=message
    )
    data = request.SerializeToString()
    echo, echo_address = start("echo")
    real, real_address = start("serve", str(tokens), str(dim), "1")
    lazy, lazy_address = start("serve", str(tokens), str(dim), "0")
    try:
        async with (
            ServiceClient(real_address) as client,
            ServiceClient(lazy_address) as other,
            grpc.aio.insecure_channel(echo_address) as channel,
        ):
            streams = {"infer": client.stream(), "undecoded": other.stream()}
            bare = {name: channel.stream_stream(f"/bare.Echo/{name}")() for name in ("Run", "OneWay")}

            async def echoed(name: str) -> None:
                await bare[name].write(data)
                await bare[name].read()

            async def inferred(name: str) -> None:
                request.request_id += 1
                await streams[name].infer(request, 5.0)

            ways = {
                "echo": lambda: echoed("Run"),
                "one way": lambda: echoed("OneWay"),
                "infer": lambda: inferred("infer"),
                "undecoded": lambda: inferred("undecoded"),
            }
            found: dict[str, list[float]] = {name: [] for name in ways}
            for way in ways.values():
                await p50(way, calls)
            for turn in range(rounds):
                order = list(ways) if turn % 2 else list(ways)[::-1]
                for name in order:
                    found[name].append(await p50(ways[name], calls))
            for call in bare.values():
                call.cancel()
    finally:
        for process in (echo, real, lazy):
            process.terminate()
            process.wait()
    result = {name: statistics.median(times) for name, times in found.items()}
    for name in ("echo", "one way"):
        ratios = [mine / theirs for mine, theirs in zip(found["infer"], found[name], strict=True)]
        result[f"over {name}"] = statistics.median(ratios)
    ratios = [mine / theirs for mine, theirs in zip(found["undecoded"], found["echo"], strict=True)]
    result["undecoded over echo"] = statistics.median(ratios)
    return result | {"bytes": len(data)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--role", nargs="+")
    arguments = parser.parse_args()
    if arguments.role:
        if arguments.role[0] == "echo":
            asyncio.run(serve_echo())
        else:
            tokens, dim, decodes = map(int, arguments.role[1:])
            serve_instant(tokens, dim, bool(decodes))
        return
    print(
        f"{'size':8}{'bytes':>8}{'echo us':>10}{'one way us':>12}{'infer us':>10}{'ratio':>8}{'/one way':>10}"
        f"{'undecoded us':>14}{'ratio':>8}"
    )
    worst = worst_undecoded = 0.0
    for name, (tokens, dim) in SIZES.items():
        row = asyncio.run(measure(tokens, dim, arguments.rounds, arguments.calls))
        worst = max(worst, row["over echo"])
        worst_undecoded = max(worst_undecoded, row["undecoded over echo"])
        times = [row[way] * 1e6 for way in ("echo", "one way", "infer")]
        print(
            f"{name:8}{row['bytes']:>8.0f}{times[0]:>10.0f}{times[1]:>12.0f}{times[2]:>10.0f}"
            f"{row['over echo']:>8.2f}{row['over one way']:>10.2f}"
            f"{row['undecoded'] * 1e6:>14.0f}{row['undecoded over echo']:>8.2f}"
        )
    found = {"ratio": round(worst, 3), "bar": 1.3, "undecoded_ratio": round(worst_undecoded, 3)}
    print(json.dumps({"benchmark": "rpc_overhead"} | found))


if __name__ == "__main__":
    main()
