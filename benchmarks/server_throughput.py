"""Requests per second of the real server under load, over what its tail does offline at its best batch size.

The server is a process with one torch thread; 32 clients, each with a stream of its own and one request in
flight at a time, share one client process (a deep queue is the point: `--depth` raises it). The offline figure is
taken with the same tail in a process of its own, before and after; their mean counts, as machines drift.

    blocks-6   65x192 tokens, 8 bits, into 6 blocks of dim 192, 3 heads, random weights: the bar
    clutter    the default network, cut after its first block, all tokens, for comparison

    python benchmarks/server_throughput.py [--seconds 8]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from splitpoint.codec.requests import build_request, exit_state_message
from splitpoint.codec.tokens import TokenCodec
from splitpoint.models.card import ModelCard
from splitpoint.models.store import codec_arrays, load_network, resolve, save_network
from splitpoint.policies.service_time import next_exit
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import ServiceClient
from splitpoint.server.config import ServerConfig
from splitpoint.server.engine import load_engine
from splitpoint.server.serve import main as serve_main
from splitpoint.server.work import Sample

CLIENTS = 32
BATCHES = (1, 2, 4, 8, 16, 32)
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def six_blocks(folder: Path) -> str:
    """A file of a 7-block network whose only exit is the last: 6 blocks lie behind cut 1."""
    import torch

    from splitpoint.models.vit import SplitViT

    card = ModelCard(
        name="blocks-6", image_size=(64, 64), channels=1, classes=tuple("0123456789"), mean=(0.5,), std=(0.25,),
        patch=8, dim=192, depth=7, heads=3, exits=(7,), exit_state_dim=32,
    )  # fmt: skip
    torch.manual_seed(0)
    save_network(folder / "blocks-6.safetensors", SplitViT(card), card, {})
    return str(folder / "blocks-6.safetensors")


def requests(model: str, count: int) -> list[pb.InferRequest]:
    """Requests after block 1 with all tokens; no exit but the last answers."""
    _, card = load_network(model)
    codec = TokenCodec(codec_arrays(resolve(model)), dim=card.dim)
    made = []
    for number in range(count):
        random = np.random.default_rng(number)
        tokens = random.standard_normal((card.patch_tokens + 1, card.dim)).astype(np.float32)
        state = None
        if passed := next_exit(card, 1):
            state = exit_state_message(np.zeros(card.exit_state_dim), np.zeros(card.class_count), passed, 0.0)
        made.append(
            build_request(
                model_id=card.id, request_id=1, cut=1, deadline_s=30.0, exit_margin=2.0,
                payload=codec.encode(tokens, None, 1)[0], exit_state=state,
            )
        )  # fmt: skip
    return made


def offline(model: str) -> dict[str, float]:
    """Samples per second of the tail at its best batch size, and that size."""
    engine = load_engine(model)
    card = engine.card
    tokens = np.random.default_rng(0).standard_normal((card.patch_tokens + 1, card.dim)).astype(np.float32)
    u, logits = np.zeros(card.exit_state_dim, np.float32), np.zeros(card.class_count, np.float32)
    best = {"rate": 0.0, "batch": 0.0}
    for size in BATCHES:
        samples = [Sample(1, tokens, 2.0, u, logits) for _ in range(size)]
        times = []
        for _ in range(max(6, 128 // size)):
            start = time.perf_counter()
            for _ in engine.tail.run(samples):
                pass
            times.append(time.perf_counter() - start)
        rate = size / float(np.median(times))
        if rate > best["rate"]:
            best = {"rate": rate, "batch": size}
    return best


async def load(address: str, model: str, seconds: float, depth: int) -> dict[str, float]:
    """Answers per second that 32 clients get, and the median latency."""
    made = requests(model, 8)
    times: list[float] = []
    begin = time.perf_counter() + 1.5
    end = begin + seconds

    async def client(index: int) -> None:
        async with ServiceClient(address, device=index) as service:
            stream = service.stream()
            await asyncio.gather(*(flow(stream, index * 1000 + lane) for lane in range(depth)))

    async def flow(stream: object, first: int) -> None:
        request = pb.InferRequest()
        request.CopyFrom(made[first % len(made)])
        number = first * 1_000_000
        while (start := time.perf_counter()) < end:
            number += 1
            request.request_id = number
            await stream.infer(request, 30.0)  # type: ignore[attr-defined]
            done = time.perf_counter()
            if begin <= done < end:
                times.append(done - start)

    await asyncio.gather(*(client(index) for index in range(CLIENTS)))
    return {"rate": len(times) / seconds, "p50_s": float(np.median(times))}


def child(role: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--role", role, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ONE_THREAD)


def result(role: str, *arguments: str) -> dict[str, float]:
    out, _ = child(role, *arguments).communicate()
    found: dict[str, float] = json.loads(out)
    return found


def measure(model: str, seconds: float, depth: int) -> dict[str, float]:
    before = result("offline", model)
    server = child("serve", model)
    assert server.stdout is not None
    try:
        address = server.stdout.readline().split()[-1]
        served = result("load", address, model, str(seconds), str(depth))
    finally:
        server.terminate()
        server.wait()
    after = result("offline", model)
    rate = (before["rate"] + after["rate"]) / 2
    return {"offline": rate, "batch": after["batch"], **served, "ratio": served["rate"] / rate}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--depth", type=int, default=1, help="requests in flight for each client")
    parser.add_argument("--role", nargs="+")
    arguments = parser.parse_args()
    match arguments.role:
        case ["serve", model]:
            serve_main(ServerConfig(model=model, port=0))
        case ["offline", model]:
            print(json.dumps(offline(model)))
        case ["load", address, model, seconds, depth]:
            print(json.dumps(asyncio.run(load(address, model, float(seconds), int(depth)))))
        case _:
            print(f"{'network':10}{'offline/s':>10}{'batch':>7}{'served/s':>10}{'p50 ms':>8}{'ratio':>8}")
            with tempfile.TemporaryDirectory() as folder:
                rows = {}
                for name, model in {"blocks-6": six_blocks(Path(folder)), "clutter": "clutter"}.items():
                    row = rows[name] = measure(model, arguments.seconds, arguments.depth)
                    print(
                        f"{name:10}{row['offline']:>10.0f}{row['batch']:>7.0f}{row['rate']:>10.0f}"
                        f"{row['p50_s'] * 1e3:>8.1f}{row['ratio']:>8.2f}",
                        flush=True,
                    )
            print(
                json.dumps(
                    {
                        "benchmark": "server_throughput",
                        "ratio": round(rows["blocks-6"]["ratio"], 3),
                        "bar": 0.8,
                        "default_network_ratio": round(rows["clutter"]["ratio"], 3),
                    }
                )
            )


if __name__ == "__main__":
    main()
