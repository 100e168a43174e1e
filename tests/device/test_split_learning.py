"""Split learning over gRPC and the emulator: the same losses, bytes and weights as in one process; lost links."""

from __future__ import annotations

import asyncio
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from splitpoint.cli import main
from splitpoint.device.split_run import Patient, SplitRunConfig, split_run
from splitpoint.errors import UsageError
from splitpoint.models.card import read_card
from splitpoint.models.data import Dataset
from splitpoint.models.preprocess import normalise
from splitpoint.models.split_halves import join_halves, save_half, tail_logits
from splitpoint.models.store import codec_arrays, load_network, resolve
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import LinkDown, Refused, ServiceClient
from splitpoint.server.config import TrainingConfig
from splitpoint.server.refusals import Rejected
from splitpoint.server.training import TrainService

from .conftest import Small, Start, random_card, save_random
from .narrow import Narrow

pytestmark = pytest.mark.timeout(120)
LINK = {"kind": "constant", "rate_bps": 20e6, "round_trip_s": 0.01, "snr_db": 20.0}


class Data:
    """48 images of 5 classes that differ in brightness; the same in every epoch, in another order."""

    def __init__(self, identity: str = "") -> None:
        self.identity = identity
        random = np.random.default_rng(0)
        self.labels = random.integers(0, 5, 48)
        noise = random.integers(0, 60, (48, 16, 16, 1))
        self.images = (noise + 40 * self.labels[:, None, None, None]).astype(np.uint8)
        self.held_out = self.evaluation = Dataset(self.images[:20], self.labels[:20], ())

    def epoch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        order = np.random.default_rng(index).permutation(48)
        return self.images[order], self.labels[order]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The small network without its export, which nothing here needs."""
    file = save_random(tmp_path_factory.mktemp("small") / "small.safetensors", random_card(), 5)
    return Small(file, file.parent, read_card(file))


def _config(small: Small, **changes: Any) -> SplitRunConfig:
    values = {"model": str(small.file), "epochs": 2, "batch": 12, "learning_rate": 5e-3, "rate": 0.3}
    return SplitRunConfig(**(values | changes))


def _service(small: Small, folder: Path) -> TrainService:
    torch.set_num_threads(1)
    return TrainService(small.card, lambda: load_network(small.file)[0], TrainingConfig(folder=folder))


def _in_process(small: Small, config: SplitRunConfig, folder: Path) -> dict[str, Any]:
    service = _service(small, folder / "server")

    async def exchange(request: pb.TrainStepRequest) -> pb.TrainStepReply:
        return pb.TrainStepReply.FromString(await service.step(request.SerializeToString()))

    try:
        return asyncio.run(split_run(config, Data(), exchange, folder))
    finally:
        service.close()


def _over_grpc(
    config: SplitRunConfig, folder: Path, address: str, identity: str = "", **options: Any
) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with ServiceClient(address) as client:
            return await split_run(config, Data(identity), Patient(client, 20.0, 30.0), folder, **options)

    return asyncio.run(main())


def _weights(path: str | Path) -> dict[str, np.ndarray]:
    return dict(load_file(path))


@pytest.fixture(scope="module")
def training(small: Small, start_server: Start, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Address and folder of a server that trains."""
    folder = tmp_path_factory.mktemp("training")
    server = start_server(small.file, "127.0.0.1:0", "--train", "--train-dir", str(folder))
    return server.address, folder


@pytest.fixture(scope="module")
def emulator(training: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the channel emulator before it."""
    config = tmp_path_factory.mktemp("channel") / "channel.json"
    config.write_text(json.dumps({"links": [LINK]}))
    process = subprocess.Popen(
        [sys.executable, "-m", "splitpoint", "channel", "--config", str(config), "--upstream", training[0],
         "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 60)[0]
    yield process.stdout.readline().removeprefix("listening on ").strip()
    process.terminate()
    process.wait(20)
    process.stdout.close()


@pytest.mark.parametrize(
    "changes",
    [{}, {"method": "random-top-k", "send_labels": True}],
    ids=["adc, labels stay", "top-k, labels sent"],
)
def test_grpc_through_the_emulator_gives_the_losses_bytes_and_weights_of_one_process(
    small: Small, training: tuple[str, Path], emulator: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = _config(small, **changes)
    here = _in_process(small, config, tmp_path / "here")
    began = time.monotonic()
    there = _over_grpc(config, tmp_path / "there", emulator)
    elapsed_s = time.monotonic() - began
    drop = ("seconds",)
    for one, other in zip(here["history"], there["history"], strict=True):
        assert {k: v for k, v in one.items() if k not in drop} == {
            k: v for k, v in other.items() if k not in drop
        }
    last = there["history"][-1]
    assert last["loss"] < there["history"][0]["loss"]
    # The bytes took their time on the link: 8 bits each at 20 Mbit/s.
    total = last["bytes_up"] + last["bytes_down"] + last["evaluation_bytes"]
    assert elapsed_s > total * 8 / 20e6
    ours, theirs = _weights(here["head"]), _weights(there["head"])
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)
    tail = _weights(tmp_path / "here" / "server" / here["session"] / "tail.safetensors")
    remote = _weights(training[1] / there["session"] / "tail.safetensors")
    assert all((tail[name] == remote[name]).all() for name in tail)


def test_labels_stay_on_the_device_unless_they_may_leave(small: Small, tmp_path: Path) -> None:
    seen: list[pb.TrainStepRequest] = []
    for send in (False, True):
        service = _service(small, tmp_path / f"server-{send}")

        async def exchange(
            request: pb.TrainStepRequest, service: TrainService = service
        ) -> pb.TrainStepReply:
            seen.append(request)
            return pb.TrainStepReply.FromString(service.answer(request.SerializeToString()))

        config = _config(small, epochs=1, send_labels=send)
        asyncio.run(split_run(config, Data(), exchange, tmp_path / f"device-{send}"))
        service.close()
        batches = [r for r in seen if r.activations and not r.evaluate]
        gradients = [r for r in seen if r.logits_gradient]
        assert len(batches) == 4
        assert all(bool(r.labels or r.classes) == send for r in seen if r in batches)
        assert len(gradients) == (0 if send else 4)
        seen.clear()


def test_an_evaluation_takes_as_many_messages_as_it_needs(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not compressed: a batch whose training fits into a message may not."""
    most = 4096 + 5 * 2 * 17 * small.card.dim
    expected = _in_process(small, _config(small), tmp_path / "whole")
    monkeypatch.setattr("splitpoint.device.split_run.MAX_MESSAGE_BYTES", most)
    service, rows = _service(small, tmp_path / "server"), []

    async def exchange(request: pb.TrainStepRequest) -> pb.TrainStepReply:
        if request.evaluate:
            assert request.ByteSize() <= most
            rows.append(request.outputs)
        return pb.TrainStepReply.FromString(service.answer(request.SerializeToString()))

    result = asyncio.run(split_run(_config(small), Data(), exchange, tmp_path / "device"))
    service.close()
    assert rows == [5, 5, 5, 5] * 2
    found, wanted = (
        [entry["calibration_accuracy"] for entry in run["history"]] for run in (result, expected)
    )
    assert found == wanted


def test_joined_halves_are_the_network_that_was_trained(small: Small, tmp_path: Path) -> None:
    result = _in_process(small, _config(small, method="none", rate=1.0, epochs=3), tmp_path)
    tail = tmp_path / "server" / result["session"] / "tail.safetensors"
    card = join_halves(small.file, Path(result["head"]), tail, tmp_path / "joined.safetensors")
    assert card.id != small.card.id
    network, _ = load_network(tmp_path / "joined.safetensors")
    data = Data()
    with torch.inference_mode():
        x, _ = network.run(network.embed(torch.from_numpy(normalise(data.images[:20], card))), 0, 2)
        found = (tail_logits(network, x, 2).argmax(dim=1).numpy() == data.labels[:20]).mean()
    assert found == pytest.approx(result["history"][-1]["calibration_accuracy"])
    with pytest.raises(UsageError, match="is not a trained head"):
        join_halves(small.file, tail, tail, tmp_path / "wrong.safetensors")
    with pytest.raises(UsageError, match="another file than"):
        join_halves(small.file, Path(result["head"]), tail, Path(small.file))


def test_halves_as_they_were_join_to_the_model_itself_with_its_codec(tmp_path: Path) -> None:
    network, card = load_network("clutter")
    halves = [tmp_path / f"{side}.safetensors" for side in ("head", "tail")]
    save_half(halves[0], network, card, 2, "head")
    save_half(halves[1], network, card, 2, "tail")
    joined = tmp_path / "joined.safetensors"
    assert join_halves("clutter", *halves, joined) == card
    codec = codec_arrays(joined)
    expected = {k: v for k, v in codec_arrays(resolve("clutter")).items() if k.startswith("codec.")}
    assert codec.keys() == expected.keys()
    assert all((codec[name] == array).all() for name, array in expected.items())
    with torch.no_grad():
        network.cls_token += 1
    save_half(halves[0], network, card, 2, "head")
    trained = join_halves("clutter", *halves, joined).training
    assert card.training.keys() - trained.keys() == {"evaluation_accuracy"}


class Interrupted(Exception):  # noqa: N818 - what a killed process would be
    pass


def test_a_killed_device_goes_on_to_the_same_weights(
    small: Small, training: tuple[str, Path], tmp_path: Path
) -> None:
    config = _config(small, method="adc", epochs=3)
    whole = _over_grpc(config, tmp_path / "whole", training[0])
    ticks = iter(range(100))

    def tick() -> None:
        if next(ticks) == 6:  # in the second epoch of four steps each
            raise Interrupted

    with pytest.raises(Interrupted):
        _over_grpc(config, tmp_path / "killed", training[0], tick=tick)
    assert len(json.loads((tmp_path / "killed" / "metrics.json").read_text())) == 1
    resumed = _over_grpc(config, tmp_path / "killed", training[0])
    for one, other in zip(whole["history"], resumed["history"], strict=True):
        assert one["loss"] == other["loss"]
        assert 0 <= other["bytes_up"] - one["bytes_up"] < 200  # the plan was sent again
    ours, theirs = _weights(whole["head"]), _weights(resumed["head"])
    assert all((ours[name] == theirs[name]).all() for name in ours)
    with pytest.raises(UsageError, match="of another configuration"):
        _over_grpc(_config(small, rate=0.5), tmp_path / "killed", training[0])
    with pytest.raises(UsageError, match="of another configuration"):  # the same, on other images
        _over_grpc(config, tmp_path / "killed", training[0], identity="mine")


def test_a_server_that_lost_the_session_is_taken_up_where_both_sides_stand(
    small: Small, tmp_path: Path
) -> None:
    services = [_service(small, tmp_path / "server")]
    steps = iter(range(100))

    def tick() -> None:
        if next(steps) == 5:  # another process over the same folder
            services[0].close()
            services[0] = _service(small, tmp_path / "server")

    async def exchange(request: pb.TrainStepRequest) -> pb.TrainStepReply:
        try:
            return pb.TrainStepReply.FromString(services[0].answer(request.SerializeToString()))
        except Rejected as error:
            raise Refused(error.code, str(error)) from None

    config = _config(small, epochs=3)
    result = asyncio.run(split_run(config, Data(), exchange, tmp_path / "device", tick=tick))
    services[0].close()
    assert next(steps) == 6 + 4 + 4  # two steps of the second epoch were taken twice
    expected = _in_process(small, config, tmp_path / "whole")
    assert [e["loss"] for e in result["history"]] == [e["loss"] for e in expected["history"]]


def test_a_reply_that_was_lost_is_asked_for_again(small: Small, tmp_path: Path) -> None:
    service = _service(small, tmp_path / "server")
    calls = iter(range(1000))

    class Lossy:
        """Loses every third reply, after the server has done its work."""

        async def train_step(self, request: pb.TrainStepRequest, timeout: float) -> pb.TrainStepReply:
            reply = service.answer(request.SerializeToString())
            if next(calls) % 3 == 1:
                raise LinkDown("swallowed")
            return pb.TrainStepReply.FromString(reply)

    exchange = Patient(Lossy(), 1.0, 10.0, pause_s=0.0)  # type: ignore[arg-type]
    result = asyncio.run(split_run(_config(small), Data(), exchange, tmp_path / "device"))
    service.close()
    expected = _in_process(small, _config(small), tmp_path / "whole")
    assert [e["loss"] for e in result["history"]] == [e["loss"] for e in expected["history"]]
    assert [e["bytes_up"] for e in result["history"]] == [e["bytes_up"] for e in expected["history"]]
    assert result["history"][-1]["repeated_bytes"] > 0


def test_a_server_that_is_not_there_is_told_once_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    calls = iter(range(1000))

    class Away:
        async def train_step(self, request: pb.TrainStepRequest, timeout: float) -> pb.TrainStepReply:
            if next(calls) < 3:
                raise LinkDown("cannot reach it")
            return pb.TrainStepReply()

    exchange = Patient(Away(), 1.0, 10.0, pause_s=0.0)  # type: ignore[arg-type]
    asyncio.run(exchange(pb.TrainStepRequest()))
    assert [record.message for record in caplog.records] == ["cannot reach it; trying again for 10 s"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 2.0}, "--learning-rate: Input should be less than or equal to 1"),
        ({"weight_decay": 3.0}, "--weight-decay: Input should be less than or equal to 1"),
        ({"seed": 1 << 63}, "--seed: Input should be less than"),
        ({"epochs": 10_000_000}, "--steps: Input should be less than or equal to 10000000"),
        ({"cut": 4}, r"--cut: must be in 1\.\.3"),
        ({"batch": 49}, "--batch: 49 is more than the 48 training images"),
    ],
)
def test_what_no_plan_may_say_is_one_line(small: Small, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        _config(small, **changes).plan(small.card, 48)


@pytest.mark.parametrize("option", ["--step-timeout-s", "--patience-s", "--learning-rate"])
def test_what_is_not_finite_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "clutter", "--split-learning", "--server", "127.0.0.1:9", option, "inf"])
    assert ended.value.code == 2
    assert f"{option}: Input should be a finite number" in capsys.readouterr().err


def _write_images(folder: Path) -> str:
    """The data as a folder of images; its name."""
    data = Data()
    for index, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        path = folder / "abcde"[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(path)
    return str(folder)


def test_a_step_may_be_on_its_way_for_longer_than_a_ping_is_waited_for(
    small: Small, training: tuple[str, Path], tmp_path: Path
) -> None:
    with Narrow(training[0]) as way:
        way.bytes_per_s = 15_000.0
        arguments = ["train", str(small.file), "--split-learning", "--server", way.address, "--epochs", "1"]
        arguments += ["--data", _write_images(tmp_path / "images"), "--out", str(tmp_path / "out")]
        # About 30 KB each way: two seconds.
        arguments += ["--method", "none", "--rate", "1", "--batch", "36", "--held-out", "0"]
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--patience-s", "0"])
    assert ended.value.code == 0


def test_the_command_trains_and_prints_where_the_head_is(
    small: Small, training: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = _write_images(tmp_path / "images")
    arguments = ["train", str(small.file), "--split-learning", "--server", training[0], "--epochs", "1"]
    arguments += [
        "--data",
        images,
        "--batch",
        "12",
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr()
    assert ended.value.code == 0
    result = json.loads(shown.out)
    assert Path(result["head"]).is_file()
    assert result["history"][0]["bytes_up"] > 0
    assert "epoch 1 loss" in shown.err
