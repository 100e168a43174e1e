"""The client as a library: what users call, with and without a server."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from splitpoint.codec.tokens import TokenCodec
from splitpoint.device import client as client_module
from splitpoint.device.client import Client
from splitpoint.device.encoder import Encoder
from splitpoint.device.head import advanced
from splitpoint.device.load import load_head
from splitpoint.device.result import Result
from splitpoint.errors import DataError, RemoteError, SplitpointError, UsageError
from splitpoint.models.store import codec_arrays
from splitpoint.policies.decision import Decision
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome

from .conftest import Server, Small, Start, eventually, free_address
from .narrow import Narrow

SENDING = Decision(2, keep=0.5, bits=4)


@pytest.fixture(scope="module")
def client(server: Server, small: Small) -> Iterator[Client]:
    with Client(server.address, small.folder, policy=SENDING, deadline_s=2.0) as opened:
        yield opened


def test_an_image_is_answered_by_the_server(client: Client, small: Small) -> None:
    result = client.infer(small.image(0))
    assert (result.where, result.local, result.degraded, result.late) == ("server", False, False, False)
    assert result.class_name == small.card.classes[result.prediction]
    assert result.cut == 2
    assert 0.0 < result.latency_s < 2.0
    assert result.uplink_bytes > 0
    assert result.decision == SENDING


def start_quorum(start: Start, address: str, small: Small, other: Small, folder: Path) -> Server:
    """A server at `address` for devices with the small network, which the other one votes beside."""
    config = folder / "quorum.yaml"
    learners = [{"model": str(small.file), "on_device": True}, {"model": str(other.file)}]
    config.write_text(json.dumps({"learners": learners}), encoding="utf-8")
    return start("", address, "--quorum", str(config))


def test_a_quorum_of_other_networks_gets_the_image_whole(
    small: Small, other: Small, start_server: Start, tmp_path: Path
) -> None:
    quorum = start_quorum(start_server, "127.0.0.1:0", small, other, tmp_path)
    codec = TokenCodec(codec_arrays(small.file), dim=small.card.dim)
    head = load_head(small.folder)
    with Client(quorum.address, small.folder, policy=SENDING, deadline_s=5.0) as client:
        result = client.infer(small.image(0))
    assert (result.where, result.degraded, result.cut) == ("server", False, 2)
    state = advanced(head, small.image(0), None, 2)
    request, _ = Encoder(small.card, codec, whole_input=True).request(
        small.image(0), state, SENDING, request_id=1, deadline_s=1.0
    )
    assert request.WhichOneof("payload") == "image"
    assert request.exit_state.exits_passed == 1
    assert result.uplink_bytes == request.ByteSize()


def test_a_request_may_be_on_its_way_for_longer_than_a_ping_is_waited_for(
    server: Server, small: Small
) -> None:
    with (
        Narrow(server.address) as way,
        Client(way.address, small.folder, policy=Decision(2), deadline_s=15.0) as client,
    ):
        first = client.infer(small.image(0))
        way.bytes_per_s = first.uplink_bytes / 2.5
        result = client.infer(small.image(0))
    assert result.where == first.where == "server"
    assert result.latency_s > 2.0


def test_a_server_is_found_where_the_way_to_it_takes_most_of_the_deadline(
    server: Server, small: Small
) -> None:
    with Narrow(server.address) as way:
        way.bytes_per_s = 250.0
        with Client(way.address, small.folder, policy=Decision(4), deadline_s=15.0) as client:
            eventually(lambda: client.link_up, 20.0)


def test_a_server_that_comes_back_as_a_quorum_gets_the_image_whole(
    small: Small, other: Small, start_server: Start, tmp_path: Path
) -> None:
    address = free_address()
    tail = start_server(small.file, address)
    with Client(address, small.folder, policy=SENDING, deadline_s=5.0) as client:
        assert client.infer(small.image(0)).where == "server"
        tail.kill()
        eventually(lambda: client.infer(small.image(0)).degraded, 5.0)
        start_quorum(start_server, address, small, other, tmp_path)
        eventually(lambda: client.infer(small.image(0)).where == "server", 5.0)


def test_all_local_needs_no_server_and_is_the_networks_own_answer(small: Small) -> None:
    head = load_head(small.folder)
    with Client(free_address(), small.folder, policy=Decision(4)) as client:
        assert not client.link_up
        for seed in range(5):
            result = client.infer(small.image(seed))
            wanted = advanced(head, small.image(seed), None, 4)
            assert (result.prediction, result.margin) == (wanted.prediction, wanted.margin)
            assert (result.where, result.degraded, result.uplink_bytes) == ("local", False, 0)


def test_an_image_may_be_an_array_a_pillow_image_or_a_path(
    client: Client, small: Small, tmp_path: Path
) -> None:
    pixels = small.image(3)
    grey = Image.fromarray(pixels[:, :, 0])
    grey.save(tmp_path / "grey.png")
    given = [pixels, pixels[:, :, 0], grey, tmp_path / "grey.png", str(tmp_path / "grey.png")]
    margins = {client.infer(image).margin for image in given}
    assert len(margins) == 1


def test_other_sizes_and_colours_are_fitted(client: Client) -> None:
    for shape in ((40, 30), (40, 30, 3), (16, 16, 3)):
        assert isinstance(client.infer(np.zeros(shape, np.uint8)), Result)
    assert isinstance(client.infer(Image.new("RGBA", (20, 20))), Result)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((16, 16)), "not float64"),
        (np.zeros((16, 16, 2), np.uint8), "must have shape"),
        (np.zeros((1, 16, 16, 1), np.uint8), "must have shape"),
        (np.zeros((0, 16), np.uint8), "must have shape"),
        ("nowhere.png", r"nowhere\.png"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_image_is_refused(client: Client, image: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        client.infer(image)


def test_threads_wait_in_line_and_each_gets_its_own_answer(client: Client, small: Small) -> None:
    alone = [client.infer(small.image(seed)).margin for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: client.infer(small.image(seed)).margin, range(16)))
    assert together == pytest.approx(alone, abs=1e-5)


def test_callers_with_an_event_loop_wait_without_blocking_it(client: Client, small: Small) -> None:
    async def run() -> list[Result]:
        return await asyncio.gather(*(client.infer_async(small.image(seed)) for seed in range(4)))

    assert len(asyncio.run(run())) == 4


def test_an_array_may_be_written_to_while_its_image_waits(small: Small) -> None:
    frame = small.image(0)

    async def run(client: Client) -> list[Result]:
        async with asyncio.TaskGroup() as group:
            answers = []
            for seed in range(6):
                frame[:] = small.image(seed)
                answers.append(group.create_task(client.infer_async(frame)))
                await asyncio.sleep(0)
        return [answer.result() for answer in answers]

    with Client(free_address(), small.folder, policy=Decision(4), deadline_s=2.0) as client:
        found = [result.margin for result in asyncio.run(run(client))]
        assert found == [client.infer(small.image(seed)).margin for seed in range(6)]


def test_a_client_that_computes_holds_up_no_other_client(small: Small) -> None:
    begun, seen = threading.Event(), threading.Event()

    def hold(*arguments: Any) -> Any:
        begun.set()
        assert seen.wait(20.0)
        return run(*arguments)

    with (
        Client(free_address(), small.folder, policy=Decision(4), deadline_s=60.0) as slow,
        Client(free_address(), small.folder, policy=Decision(4)) as quick,
        ThreadPoolExecutor(1) as pool,
    ):
        run, slow._head.run = slow._head.run, hold  # type: ignore[method-assign]
        held = pool.submit(slow.infer, small.image(0))
        assert begun.wait(20.0)
        try:
            wanted = asyncio.run(asyncio.wait_for(quick.infer_async(small.image(0)), 10.0))
        finally:
            seen.set()
        assert held.result().margin == wanted.margin


def test_clients_of_one_process_share_a_thread(server: Server, small: Small) -> None:
    def threads() -> int:
        return sum(thread.name == "splitpoint-client" for thread in threading.enumerate())

    before = threads()
    with Client(server.address, small.folder, policy=SENDING), Client(server.address, small.folder) as second:
        assert threads() == 1
        second.infer(small.image(0))
    assert threads() == before


def test_a_server_that_comes_later_is_found(start_server: Start, small: Small) -> None:
    address = free_address()
    with Client(address, small.folder, policy=SENDING) as client:
        first = client.infer(small.image(0))
        assert (first.where, first.degraded) == ("local", True)
        assert "not reachable" in str(client.last_error)
        server = start_server(small.file, address)
        eventually(lambda: client.link_up, 2.0)
        assert client.infer(small.image(0)).where == "server"
        assert client.last_error is None
        server.kill()
        answers = [client.infer(small.image(seed)) for seed in range(20)]
        assert all(answer.degraded and answer.local and not answer.late for answer in answers[1:])


def test_a_server_with_other_weights_is_refused(server: Server, small: Small, other: Small) -> None:
    with pytest.raises(RemoteError, match=f"runs model {small.card.id}"):
        Client(server.address, other.folder)


def test_without_a_profile_the_split_lies_at_half_depth(server: Server, small: Small) -> None:
    with Client(server.address, small.folder) as client:
        assert client.infer(small.image(0)).decision.split == small.card.depth // 2


def test_with_a_profile_the_policy_adapts(tmp_path: Path) -> None:
    from splitpoint.device.export import export

    export("clutter", tmp_path / "exported", progress=False)
    with Client(free_address(), tmp_path / "exported") as client:
        result = client.infer(np.zeros((64, 64), np.uint8))
    # Nobody there: what is best without a link is to answer here.
    assert result.decision.split == client.card.depth
    assert not result.degraded


def test_wrong_arguments_are_named(small: Small, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Decision\.split"):
        Client(free_address(), small.folder, policy=Decision(5))
    with pytest.raises(UsageError, match="unknown coder 'zip'"):
        Client(free_address(), small.folder, coder="zip")
    with pytest.raises(DataError, match="image_format: must be png"):
        Client(free_address(), small.folder, image_format="gif")
    for value in (0.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="deadline_s"):
            Client(free_address(), small.folder, deadline_s=value)
        with pytest.raises(UsageError, match="probe_s"):
            Client(free_address(), small.folder, probe_s=value)
    with pytest.raises(DataError, match=r"no card\.json"):
        Client(free_address(), tmp_path)


def test_a_closed_client_says_so(server: Server, small: Small) -> None:
    client = Client(server.address, small.folder)
    client.close()
    client.close()
    with pytest.raises(SplitpointError, match="closed"):
        client.infer(small.image(0))


def test_a_call_that_a_closing_client_overtakes_is_refused(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Client(free_address(), small.folder)
    look = client_module.as_pixels

    def close_and_look(*arguments: Any) -> np.ndarray:
        device.close()
        return look(*arguments)

    monkeypatch.setattr(client_module, "as_pixels", close_and_look)
    with pytest.raises(SplitpointError, match="closed"):
        device.infer(small.image(0))


class Noting:
    """Notes how many requests wait."""

    def __init__(self) -> None:
        self.queues: list[int] = []

    def decide(self, observation: Observation) -> Decision:
        self.queues.append(observation.device_queue)
        return SENDING

    def learn(self, outcome: Outcome) -> None:
        pass

    def reset(self, seed: int) -> None:
        pass


def test_a_caller_that_gives_up_while_it_waits_leaves_nothing_in_line(small: Small) -> None:
    policy, released = Noting(), threading.Event()

    async def hold(device: Client) -> None:
        async with device._turn:
            while not released.is_set():
                await asyncio.sleep(0.001)

    async def run(device: Client) -> None:
        held = device._background.submit(hold(device))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(device.infer_async(small.image(0)), 0.05)
        released.set()
        await asyncio.wrap_future(held)
        await device.infer_async(small.image(1))

    with Client(free_address(), small.folder, policy=policy, deadline_s=2.0) as device:
        asyncio.run(run(device))
    assert policy.queues == [0]


def test_an_empty_policy_is_a_policy(small: Small) -> None:
    class Empty(Noting):
        def __len__(self) -> int:
            return len(self.queues)

    with Client(free_address(), small.folder, policy=Empty()) as device:
        assert device.infer(small.image(0)).decision == SENDING


def test_a_client_leaves_no_thread_behind(small: Small) -> None:
    before = set(threading.enumerate())
    with Client(free_address(), small.folder, policy=Noting(), modem=lambda: (10.0, 1e6)) as device:
        device.infer(small.image(0))
        threads = set(threading.enumerate()) - before
        assert len(threads) >= 2
    del device
    gc.collect()
    eventually(lambda: not any(thread.is_alive() for thread in threads), 2.0)
