"""A small network with random weights, its export, and real servers in processes of their own."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitpoint.models.card import ModelCard

START_S = 60.0


def random_card(**changes: Any) -> ModelCard:
    """A network that runs in well under a millisecond a block."""
    fields: dict[str, Any] = {
        "name": "small",
        "image_size": (16, 16),
        "channels": 1,
        "classes": tuple("abcde"),
        "mean": (0.5,),
        "std": (0.25,),
        "patch": 4,
        "dim": 24,
        "depth": 4,
        "heads": 2,
        "exits": (1, 3, 4),
        "exit_state_dim": 8,
    }
    return ModelCard(**(fields | changes))


def save_random(path: Path, card: ModelCard, seed: int) -> Path:
    """A model file of this card with random weights; norms of the stem as if trained."""
    import torch

    from splitpoint.models.store import save_network
    from splitpoint.models.vit import SplitViT

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = SplitViT(card)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.5, 2.0)
    if card.gates:
        choose(network)
    save_network(path, network, card, {})
    return path


def choose(network: Any) -> None:
    """Gates of a network with random weights that drop some patches, and of most inputs not all."""
    import torch

    gates = network.gates
    with torch.no_grad():
        gates.w.normal_(0.0, 0.3)
        gates.b.fill_(1.5)
        gates.v.normal_(0.0, 0.3)
        gates.low.normal_(0.0, 0.5)
        gates.up.normal_(0.0, 0.5)
        gates.c.fill_(-1.5)


@dataclass(frozen=True)
class Small:
    """The model file, its exported folder and card."""

    file: Path
    folder: Path
    card: ModelCard

    def image(self, seed: int) -> np.ndarray:
        shape = (*self.card.image_size, self.card.channels)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_small(folder: Path, seed: int, **changes: Any) -> Small:
    from splitpoint.device.export import export

    file = save_random(folder / "small.safetensors", random_card(**changes), seed)
    return Small(file, folder / "exported", export(file, folder / "exported", progress=False))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return make_small(tmp_path_factory.mktemp("small"), 5)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The same shape with other weights."""
    return make_small(tmp_path_factory.mktemp("other"), 6)


class Server:
    """`splitpoint serve` in a process of its own."""

    def __init__(self, model: Path | str, listen: str, log: Path, *options: str) -> None:
        with log.open("ab") as errors:
            self.popen = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "splitpoint",
                    "serve",
                    "--model",
                    str(model),
                    "--listen",
                    listen,
                    *options,
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        assert self.popen.stdout is not None
        assert select.select([self.popen.stdout], [], [], START_S)[0], log.read_text()
        line = self.popen.stdout.readline()
        assert line.startswith("listening on "), log.read_text()
        self.address = line.removeprefix("listening on ").strip()

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.end()

    def end(self) -> None:
        if self.popen.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        self.popen.wait(20)
        assert self.popen.stdout is not None
        self.popen.stdout.close()


Start = Callable[..., Server]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start_server(model, listen="127.0.0.1:0", *options): a server, ended with the session at the latest."""
    log = tmp_path_factory.mktemp("servers") / "server.log"
    started: list[Server] = []

    def start(model: Path | str, listen: str = "127.0.0.1:0", *options: str) -> Server:
        started.append(Server(model, listen, log, *options))
        return started[-1]

    yield start
    for server in started:
        server.end()


@pytest.fixture(scope="session")
def server(start_server: Start, small: Small) -> Server:
    """One that runs the small network for as long as the session; tests leave it as it is."""
    return start_server(small.file)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def eventually(condition: Callable[[], bool], within_s: float) -> float:
    """Seconds until `condition` held; fails when it did not in time."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within_s, f"not within {within_s} s"
        time.sleep(0.01)
    return time.monotonic() - start
