"""Runs of `adc_split_learning.py`: the data, the weights to start from, and one training in process.

Device and server are the classes that speak over gRPC (`tests/device/test_split_learning.py` holds both to equal
losses and bytes); here a call takes the place of the wire.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from splitpoint.device.split_trainer import DeviceTrainer
from splitpoint.models.card import ModelCard
from splitpoint.models.data import Dataset, load_data
from splitpoint.models.preprocess import normalise
from splitpoint.models.split_halves import tail_logits
from splitpoint.models.split_optimizer import HalfOptimizer
from splitpoint.models.split_plan import SplitPlan
from splitpoint.models.store import load_network, save_network
from splitpoint.models.training_data import StoredData
from splitpoint.models.vit import SplitViT
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.seeding import generator
from splitpoint.server.config import TrainingConfig
from splitpoint.server.training import TrainService

__all__ = ["Runs", "Setting", "Start"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FIRST = 5  # classes 0..4 are known at the start


@dataclass(frozen=True)
class Setting:
    """What all runs share. `images` are the task's, `evaluation` limits the test images, 0 is all."""

    images: int
    evaluation: int
    batch: int
    learning_rate: float
    patch: int
    dim: int
    depth: int
    heads: int
    cut: int
    start_images: int
    start_epochs: int

    @property
    def kept_from_start(self) -> int:
        """Images that the start does not see; one number for all small tasks, so that they share a start."""
        return max(self.images, 640)

    def card(self) -> ModelCard:
        return ModelCard(
            name="cifar10-first-five", image_size=(32, 32), channels=3, classes=CLASSES,
            mean=(0.491, 0.482, 0.447), std=(0.247, 0.244, 0.262), stem="conv", patch=self.patch, dim=self.dim,
            depth=self.depth, heads=self.heads, mlp_ratio=2.0, exits=(self.depth,), exit_kind="linear",
        )  # fmt: skip


class Start:
    """Data and starting weights, kept in `folder` from one call of the benchmark to the next."""

    def __init__(self, setting: Setting, folder: Path, data_dir: Path | None, device: str) -> None:
        self.setting, self._folder, self.device = setting, folder, device
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"data-{setting.images}-{setting.start_images}-{setting.evaluation}.npz"
        if not path.exists():
            np.savez(path, **self._read(data_dir))
        with np.load(path, allow_pickle=False) as file:
            self._arrays = dict(file)
        path = folder / f"calibration-{setting.evaluation}.npz"
        if not path.exists():
            some = load_data("cifar10", "calibration", data_dir=data_dir)
            count = setting.evaluation or None
            np.savez(path, calibration_images=some.images[:count], calibration_labels=some.labels[:count])
        with np.load(path, allow_pickle=False) as file:
            self._arrays |= dict(file)
        shape = (setting.patch, setting.dim, setting.depth, setting.heads, setting.batch)
        shape += (setting.start_images, setting.start_epochs, setting.kept_from_start)
        self.model = folder / f"start-{'-'.join(map(str, shape))}.safetensors"
        if not self.model.exists():
            self._train()

    def _read(self, data_dir: Path | None) -> dict[str, NDArray[Any]]:
        setting = self.setting
        train = load_data("cifar10", "train", data_dir=data_dir)
        test = load_data("cifar10", "evaluation", data_dir=data_dir)
        order = generator(0, "adc-benchmark-images").permutation(len(train))
        task = order[: setting.images]
        # The start's images are none of the task's.
        rest = order[setting.kept_from_start :]
        first = rest[train.labels[rest] < FIRST][: setting.start_images or None]
        shown = generator(0, "adc-benchmark-test").permutation(len(test))[: setting.evaluation or None]
        return {
            "task_images": train.images[task], "task_labels": train.labels[task],
            "first_images": train.images[first], "first_labels": train.labels[first],
            "test_images": test.images[shown], "test_labels": test.labels[shown],
        }  # fmt: skip

    def data(self, name: str) -> Dataset:
        return Dataset(self._arrays[f"{name}_images"], self._arrays[f"{name}_labels"], CLASSES)

    def _train(self) -> None:
        setting, card = self.setting, self.setting.card()
        torch.manual_seed(0)
        network = SplitViT(card).to(self.device).train()
        views = StoredData(0, lambda split: self.data("first"))
        per_epoch = len(self.data("first")) // setting.batch
        optimizer = HalfOptimizer(network.parameters(), 0.05, per_epoch * setting.start_epochs, 1e-3)
        for epoch in range(setting.start_epochs):
            images, labels = views.epoch(epoch)
            losses = []
            for step in range(per_epoch):
                part = slice(step * setting.batch, (step + 1) * setting.batch)
                x = torch.from_numpy(normalise(images[part], card)).to(self.device)
                y = torch.from_numpy(labels[part]).to(self.device)
                loss = functional.cross_entropy(tail_logits(network, network.embed(x), 0), y)
                loss.backward()
                optimizer.take(epoch * per_epoch + step)
                losses.append(loss.item())
            print(f"start: epoch {epoch + 1}/{setting.start_epochs} loss {np.mean(losses):.3f}", flush=True)
        save_network(self.model, network.cpu(), card, {})


class Runs:
    """Trains with one method after the other from the same start."""

    def __init__(self, start: Start, folder: Path) -> None:
        self.start, self.setting = start, start.setting
        self._folder = folder

    def steps_per_epoch(self) -> int:
        return self.setting.images // self.setting.batch

    def bytes_per_step(self, method: str, rate: float, seed: int, rho_batch: float = 0.0) -> float:
        """Both directions, by a few real steps whose training is thrown away."""
        result = self.run(method, rate, seed, steps=3, rho_batch=rho_batch, test=False)
        return float(result["bytes"]) / 3

    def run(
        self,
        method: str,
        rate: float,
        seed: int,
        *,
        steps: int,
        budget: float | None = None,
        rho_batch: float = 0.0,
        test: bool = True,
        calibration: bool = False,
    ) -> dict[str, Any]:
        """Train for `steps`, or until `budget` bytes are spent; accuracies on test and on calibration images."""
        with tempfile.TemporaryDirectory(prefix="server-", dir=self._folder) as folder:
            limits = TrainingConfig(folder=Path(folder))
            return asyncio.run(
                self._run(limits, method, rate, seed, steps, budget, rho_batch, test, calibration)
            )

    async def _run(
        self,
        limits: TrainingConfig,
        method: str,
        rate: float,
        seed: int,
        steps: int,
        budget: float | None,
        rho_batch: float,
        test: bool,
        calibration: bool,
    ) -> dict[str, Any]:
        began = time.process_time()
        setting, device = self.setting, self.start.device
        network, card = load_network(self.start.model)
        service = TrainService(card, lambda: load_network(self.start.model)[0].to(device), limits)

        async def exchange(request: pb.TrainStepRequest) -> pb.TrainStepReply:
            return pb.TrainStepReply.FromString(service.answer(request.SerializeToString()))

        plan = SplitPlan(
            cut=setting.cut, method=method, rate=rate, seed=seed, steps=steps, batch=max(setting.batch, 200),
            learning_rate=setting.learning_rate, send_labels=True, rho_batch=rho_batch,
        )  # fmt: skip
        trainer = DeviceTrainer(network.to(device), card, plan, exchange, f"{seed:032x}")
        await trainer.open()
        opened = trainer.traffic.up + trainer.traffic.down
        losses: list[float] = []

        def spent() -> int:
            return trainer.traffic.up + trainer.traffic.down - opened

        for images, labels in self._batches(seed):
            # Steps cost within a percent the same: the next one is taken if the mean one still fits.
            done = trainer.step_count
            if done == steps or (budget is not None and done and spent() * (done + 1) / done > budget):
                break
            x = torch.from_numpy(normalise(images, card)).to(device)
            losses.append(await trainer.step(x, torch.from_numpy(labels).to(device)))
        result: dict[str, Any] = {
            "method": method, "rate": rate, "seed": seed, "steps": trainer.step_count, "planned_steps": steps,
            "epochs": trainer.step_count / self.steps_per_epoch(), "bytes": spent(),
            "loss": float(np.mean(losses[-self.steps_per_epoch() :])),
        }  # fmt: skip
        if test:
            result["accuracy"] = await self._accuracy(trainer.logits, card, "test")
            if method == "bottlenet++":
                coded = _coded(trainer, network, service.session(trainer.session))
                result["accuracy_through_codec"] = await self._accuracy(coded, card, "test")
        if calibration:
            result["calibration_accuracy"] = await self._accuracy(trainer.logits, card, "calibration")
        service.close()
        result["cpu_s"] = round(time.process_time() - began, 1)
        return result

    def _batches(self, seed: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        views, size = StoredData(seed, lambda split: self.start.data("task")), self.setting.batch
        for epoch in range(1 << 20):
            images, labels = views.epoch(epoch)
            for at in range(0, len(labels) - size + 1, size):
                yield images[at : at + size], labels[at : at + size]

    async def _accuracy(self, logits: Callable[[torch.Tensor], Any], card: ModelCard, name: str) -> float:
        data, right = self.start.data(name), 0
        for at in range(0, len(data), 200):
            x = torch.from_numpy(normalise(data.images[at : at + 200], card)).to(self.start.device)
            right += int(((await logits(x)).argmax(axis=1) == data.labels[at : at + 200]).sum())
        return right / len(data)


def _coded(trainer: DeviceTrainer, network: SplitViT, tail: Any) -> Callable[[torch.Tensor], Any]:
    """Logits behind the method's own encoder and decoder, for the method that has learned to live behind them."""

    async def logits(images: torch.Tensor) -> NDArray[np.float32]:
        modules = (network, trainer.encoder, tail.decoder, tail.network)
        for module in modules:
            module.eval()
        with torch.inference_mode():
            x, attention = network.run(network.embed(images), 0, trainer.plan.cut)
            sent = trainer.encoder.encode(x, attention, torch.zeros(len(x), dtype=torch.int64), 0)
            decoded = tail.decoder.decode(sent.values, sent.indices, sent.outputs)
            found: NDArray[np.float32] = tail_logits(tail.network, decoded, trainer.plan.cut).cpu().numpy()
        return found

    return logits
