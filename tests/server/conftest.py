"""A small network with random weights, requests for it, and the real server in a process of its own."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from splitpoint.codec.image import encode_image
from splitpoint.codec.requests import build_request, exit_state_message
from splitpoint.codec.tokens import TokenCodec
from splitpoint.models.card import ModelCard
from splitpoint.policies.service_time import next_exit
from splitpoint.server.config import ServerConfig
from splitpoint.server.serve import serve

from ..small_card import SMALL
from .coordinators import Coordinated
from .scripted import ScriptedLearner

START_S = 60.0


@dataclass
class Small:
    """The network, its card, file and codec, and requests that it serves."""

    path: object
    network: object
    card: ModelCard
    codec: TokenCodec

    def request(
        self, number=1, cut=2, keep=1.0, bits=8, seed=None, *, state=True, margin=2.0, deadline_s=20.0
    ):
        random = np.random.default_rng(number if seed is None else seed)
        card = self.card
        if cut == 0:
            payload = encode_image(random.integers(0, 256, (*card.image_size, card.channels), dtype=np.uint8))
        else:
            tokens = random.standard_normal((card.patch_tokens + 1, card.dim)).astype(np.float32)
            scores = random.random(card.patch_tokens).astype(np.float32)
            payload, _ = self.codec.encode(tokens, scores, cut, keep, 0, bits)
        return self.carrying(payload, number, cut, state=state, exit_margin=margin, deadline_s=deadline_s)

    def carrying(
        self, payload, number=1, cut=2, *, groups=1, state=True, exit_margin=2.0, deadline_s=20.0, **more
    ):
        """A request with this payload; its exit state, one a group, is drawn by its number."""
        card, random = self.card, np.random.default_rng(1000 + number)
        passed, exit_state = next_exit(card, cut), None
        if passed and state:
            u = random.standard_normal(groups * card.exit_state_dim).astype(np.float32)
            logits = random.standard_normal(groups * card.class_count).astype(np.float32)
            exit_state = exit_state_message(u, logits, passed, 0.25)
        return build_request(
            model_id=card.id,
            request_id=number,
            cut=cut,
            deadline_s=deadline_s,
            exit_margin=exit_margin,
            payload=payload,
            exit_state=exit_state,
            **more,
        )


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    import torch

    from splitpoint.models.store import load_network, save_network
    from splitpoint.models.vit import SplitViT

    torch.set_num_threads(1)
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_network(path, SplitViT(SMALL), SMALL, {})
    network, card = load_network(path)
    return Small(path, network, card, TokenCodec({}, dim=card.dim, max_tokens=card.patch_tokens + 1))


@pytest.fixture(scope="session")
def scripted():
    """The class of learners without a network; `scripted.leaning` makes an opinion."""
    return ScriptedLearner


@asynccontextmanager
async def running(parts, policies=None, **settings):
    """A server in this loop; its address."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    config = ServerConfig(**{"port": 0, "grace_s": 0.5} | settings)
    task = asyncio.create_task(serve(config, parts, policies=policies, ready=ready.set_result, stop=stop))
    try:
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        yield ready.result() if ready.done() else await task
    finally:
        stop.set()
        await task


@pytest.fixture(scope="session")
def in_loop():
    """`async with in_loop(parts, **settings) as address`: a server without a process of its own."""
    return running


@pytest.fixture
def quorum(small, in_loop, scripted):
    """`async with quorum(...) as client`: a coordinator and its learners."""
    return partial(Coordinated, small, in_loop, scripted)


class Process:
    """`main(ServerConfig)` in a process of its own; `address` is what it says it listens on.

    learner  of a learner without a network, which starts faster
    """

    def __init__(self, config, log, learner=None):
        code = (
            "import sys; from splitpoint.server.config import ServerConfig; from splitpoint.server.serve import main;"
            "main(ServerConfig.model_validate_json(sys.argv[1]))"
        )
        program = ["-c", code] if learner is None else [str(Path(__file__).with_name("scripted.py")), learner]
        self._log = log
        with log.open("ab") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-W", "error", *program, config.model_dump_json()],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        self.first_line = self._line()
        self.address = self.first_line.removeprefix("listening on ").strip()

    def _line(self):
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if select.select([self.popen.stdout], [], [], 0.5)[0]:
                return self.popen.stdout.readline()
        raise AssertionError(f"the server said nothing: {self.log()}")

    def log(self):
        return self._log.read_text()

    def end(self, number=signal.SIGTERM):
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        status = self.popen.wait(30)
        self.popen.stdout.close()
        return status


@pytest.fixture
def start(small, tmp_path):
    """`start(port=0, ...)`: a running server of the small network; ended after the test."""
    yield from _starter(small, tmp_path)


@pytest.fixture(scope="session")
def served(small, tmp_path_factory):
    """A running server with its defaults, for tests that leave it as it is."""
    starter = _starter(small, tmp_path_factory.mktemp("served"))
    yield next(starter)()
    starter.close()


def _starter(small, folder):
    running = []

    def run(learner=None, **settings):
        own = {"model": str(small.path)} if learner is None else {"learners": (learner,)}
        running.append(Process(ServerConfig(**{"port": 0} | own | settings), folder / "server.log", learner))
        return running[-1]

    try:
        yield run
    finally:
        for process in running:
            if process.popen.poll() is None:
                process.end(signal.SIGKILL)
            process.popen.stdout.close()
