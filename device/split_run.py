"""Split learning of a whole data set against a server: epochs, checkpoints, patience with the link.

A reply that is lost is asked for again, and a server that lost the session is brought back to the last epoch that
both sides hold. The folder holds checkpoint.safetensors, metrics.json, and head.safetensors at the end.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from ..errors import DataError, UsageError
from ..json_text import json_text
from ..models.card import ModelCard
from ..models.preprocess import normalise
from ..models.split_optimizer import read_checkpoint
from ..models.split_plan import SplitPlan
from ..models.store import load_network
from ..models.training_data import TrainingData
from ..options import checked
from ..protos import splitpoint_pb2 as pb
from ..protos.client import LinkDown, Refused, ServiceClient, TimedOut
from ..protos.options import MAX_MESSAGE_BYTES
from ..whole_file import whole_file
from .split_trainer import DeviceTrainer, Exchange

__all__ = ["Patient", "SplitRunConfig", "split_run"]

logger = logging.getLogger(__name__)

_MOST_LOSSES = 5  # sessions lost between two checkpoints before giving up
_BESIDE_BYTES = 4096  # of a message with activations, more than all else in it


class SplitRunConfig(BaseModel):
    """One training; `images` limits the samples of an epoch, 0 is all; `held_out` is how many its evaluation has.

    cut 0 is half the network's blocks. step_timeout_s is one try of one step, patience_s the longest time that the
    link may be down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str
    cut: int = Field(0, ge=0)
    method: str = "adc"
    rate: float = Field(0.1, gt=0, le=1)
    rho_batch: float = Field(0.0, ge=0, le=1)
    epochs: int = Field(5, ge=1)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    seed: int = Field(0, ge=0)
    send_labels: bool = False
    images: int = Field(0, ge=0)
    held_out: int = Field(1000, ge=0)
    step_timeout_s: float = Field(30.0, gt=0)
    patience_s: float = Field(120.0, ge=0)

    def plan(self, card: ModelCard, samples: int) -> SplitPlan:
        """The plan for `samples` of an epoch. UsageError for a cut that the network does not have, and for what no plan
        may say."""
        cut = self.cut or card.depth // 2
        if not 1 <= cut < card.depth:
            raise UsageError(f"--cut: must be in 1..{card.depth - 1} for {card.name}, not {cut}")
        steps = samples // self.batch
        if not steps:
            raise UsageError(f"--batch: {self.batch} is more than the {samples} training images")
        shared = SplitPlan.model_fields.keys() - {"cut", "steps"}
        values = {name: getattr(self, name) for name in shared}
        plan: SplitPlan = checked(SplitPlan, cut=cut, steps=steps * self.epochs, **values)
        return plan


class Patient:
    """Steps over gRPC; tried again while the link is down, which the server sees from their number, and the log once.

    timeout_s, patience_s  one try, and the longest time that the link may be down
    repeated_bytes         of requests that were sent again
    """

    def __init__(
        self, client: ServiceClient, timeout_s: float, patience_s: float, *, pause_s: float = 0.5
    ) -> None:
        self.repeated_bytes = 0
        self._client, self._timeout_s, self._patience_s, self._pause_s = (
            client,
            timeout_s,
            patience_s,
            pause_s,
        )

    async def __call__(self, request: pb.TrainStepRequest) -> pb.TrainStepReply:
        end, told = time.monotonic() + self._patience_s, False
        while True:
            try:
                return await self._client.train_step(request, self._timeout_s)
            except (LinkDown, TimedOut) as error:
                if time.monotonic() > end:
                    raise
                if not told:
                    logger.warning("%s; trying again for %g s", error, self._patience_s)
                    told = True
                await asyncio.sleep(self._pause_s)
                self.repeated_bytes += request.ByteSize()


class _Run:
    def __init__(self, config: SplitRunConfig, data: TrainingData, exchange: Exchange, folder: Path) -> None:
        self.config, self.data, self.folder = config, data, folder
        self._checkpoint = folder / "checkpoint.safetensors"
        self._exchange = exchange
        self.history: list[dict[str, Any]] = []
        self._views = self._seen(0)

    def _seen(self, epoch: int) -> tuple[int, np.ndarray, np.ndarray]:
        images, labels = self.data.epoch(epoch)
        count = self.config.images or len(labels)
        return epoch, images[:count], labels[:count]

    async def begin(self) -> DeviceTrainer:
        """A trainer at the last checkpoint, or at the start; its session is open."""
        network, card = load_network(self.config.model)
        plan = self.config.plan(card, len(self._views[2]))
        path = self._checkpoint
        self.history, session = [], secrets.token_hex(16)
        if path.exists():
            metadata = read_checkpoint(path)[2]
            named = metadata["plan"], metadata["model_id"], metadata.get("data")
            if named != (plan.model_dump_json(), card.id, self.data.identity):
                raise UsageError(f"{path} is of another configuration: give another --out or remove it")
            session = str(metadata["session"])
        trainer = DeviceTrainer(network, card, plan, self._exchange, session)
        if path.exists():
            history = trainer.resume(path)["history"]
            assert isinstance(history, list)
            self.history = history
        await trainer.open()
        if not path.exists():  # a device that dies before its first epoch ends finds its session again
            await self._save(trainer, [])
        return trainer

    async def epoch(self, trainer: DeviceTrainer, tick: Callable[[], None]) -> None:
        """One epoch, its evaluation and its checkpoint."""
        began, number, batch = time.monotonic(), len(self.history), self.config.batch
        if self._views[0] != number:
            self._views = self._seen(number)
        _, images, labels = self._views
        losses = []
        for start in range(0, len(labels) - batch + 1, batch):
            x = torch.from_numpy(normalise(images[start : start + batch], trainer.card))
            losses.append(await trainer.step(x, torch.from_numpy(labels[start : start + batch])))
            tick()
        entry = {
            "epoch": number + 1,
            "step": trainer.step_count,
            "loss": float(np.mean(losses)),
            "calibration_accuracy": await self._accuracy(trainer),
            "bytes_up": trainer.traffic.up,
            "bytes_down": trainer.traffic.down,
            "evaluation_bytes": trainer.traffic.evaluation_up + trainer.traffic.evaluation_down,
            "repeated_bytes": getattr(self._exchange, "repeated_bytes", 0),
            "seconds": round(time.monotonic() - began, 3),
        }
        history = [*self.history, entry]
        await self._save(trainer, history)
        self.history = history
        with whole_file(self.folder / "metrics.json", "history") as partial:
            partial.write_text(json_text(history, 1) + "\n", "utf-8")

    async def _save(self, trainer: DeviceTrainer, history: list[dict[str, Any]]) -> None:
        await trainer.checkpoint(self._checkpoint, history=history, data=self.data.identity)

    async def _accuracy(self, trainer: DeviceTrainer) -> float | None:
        held, card = self.data.held_out, trainer.card
        # Uncompressed, a batch may be longer than a message.
        fit = (MAX_MESSAGE_BYTES - _BESIDE_BYTES) // (2 * (card.patch_tokens + 1) * card.dim)
        count, batch = min(self.config.held_out, len(held)), max(1, min(self.config.batch, fit))
        right = 0
        for start in range(0, count, batch):
            part = slice(start, min(start + batch, count))
            logits = await trainer.logits(torch.from_numpy(normalise(held.images[part], card)))
            right += int((logits.argmax(axis=1) == held.labels[part]).sum())
        return right / count if count else None


async def split_run(
    config: SplitRunConfig,
    data: TrainingData,
    exchange: Exchange,
    folder: Path,
    *,
    begin: Callable[[int, int], None] = lambda done, steps: None,
    tick: Callable[[], None] = lambda: None,
    said: Callable[[dict[str, Any]], None] = lambda entry: None,
) -> dict[str, Any]:
    """Train until `config.epochs` are done; a folder with a checkpoint goes on from it.

    begin, tick, said  called when a session opens (steps done, steps in all), after a step, after an epoch

    Returns the history, the session's name, and the path of the head's weights.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}") from error
    run, losses = _Run(config, data, exchange, folder), 0
    while True:
        try:
            trainer = await run.begin()
            begin(trainer.step_count, trainer.plan.steps)
            while len(run.history) < config.epochs:
                await run.epoch(trainer, tick)
                losses = 0
                said(run.history[-1])
            head = folder / "head.safetensors"
            await trainer.finish(head)
            return {"history": run.history, "session": trainer.session, "head": str(head)}
        except Refused as refusal:
            # The server was started anew, or gave the place to another: back to what both sides hold.
            losses += 1
            if refusal.code is not grpc.StatusCode.NOT_FOUND or losses > _MOST_LOSSES:
                raise
