"""Training of the default network `clutter` in the "mixed" regime (arXiv 2407.14320).

1. The backbone with its last exit alone (cross-entropy, smoothed labels). The first sixth has few fragments
   on a canvas, then more and more: among all nine from the start it learns nothing for a long time.
2. All exits together with the backbone, and behind a codec whose cut, keep, dims and bits are drawn anew for
   each step (`losses.mixed_loss`). The bottlenecks start from the principal axes of the activations.

Every epoch sees fresh canvases. All draws are keyed by (seed, epoch), and each epoch ends in a checkpoint, so
that a run that was killed goes on to the same weights.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from ..errors import DataError, UsageError
from ..seeding import generator
from . import clutter
from .card import ModelCard
from .compression import Bottleneck
from .losses import backbone_loss, mixed_loss
from .recursion import running_logits
from .store import save_network
from .vit import SplitViT

__all__ = ["TrainConfig", "train"]


class TrainConfig(BaseModel):
    """Everything that decides the weights, and where they are computed.

    An epoch is `canvases_per_digit` fresh canvases of each of the 1000 training digits. `epochs`, when set,
    replaces both counts, three fifths for the backbone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0)
    epochs: int | None = Field(None, ge=2)
    backbone_epochs: int = Field(48, ge=1)
    mixed_epochs: int = Field(28, ge=1)
    canvases_per_digit: int = Field(2, ge=1)
    batch: int = Field(64, ge=2)
    backbone_rate: float = Field(1e-3, gt=0)
    mixed_rate: float = Field(6e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    margin: float = Field(0.2, ge=0)
    ce_weight: float = Field(0.5, ge=0)
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(0, ge=0)
    dim: int = 96
    depth: int = Field(6, ge=2)
    heads: int = 3
    mlp_ratio: float = 2.0
    exits: tuple[int, ...] = (2, 4, 6)
    exit_state_dim: int = 48

    def parts(self) -> tuple[int, int]:
        """Epochs of the backbone, epochs of all together."""
        if self.epochs is None:
            return self.backbone_epochs, self.mixed_epochs
        backbone = min(self.epochs - 1, max(1, round(0.6 * self.epochs)))
        return backbone, self.epochs - backbone

    def card(self) -> ModelCard:
        return ModelCard(
            name="clutter",
            image_size=(clutter.CANVAS, clutter.CANVAS),
            channels=1,
            classes=tuple("0123456789"),
            mean=(0.2,),
            std=(0.18,),
            stem="conv",
            patch=8,
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            exits=self.exits,
            exit_state_dim=self.exit_state_dim,
        )


def _device(accelerator: str) -> torch.device:
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise UsageError("accelerator cuda: torch finds no CUDA device here")
    use_cuda = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")


def _normalised(images: np.ndarray, card: ModelCard) -> Tensor:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(card.mean).view(1, -1, 1, 1)) / torch.tensor(card.std).view(1, -1, 1, 1)


def _optimizer(modules: list[nn.Module], rate: float, decay: float) -> torch.optim.AdamW:
    weights = [p for m in modules for p in m.parameters()]
    shrunk = [p for m in modules for p in m.parameters() if p.ndim > 1 and not isinstance(m, Bottleneck)]
    kept = {id(p) for p in shrunk}
    groups = [
        {"params": shrunk, "weight_decay": decay},
        {"params": [p for p in weights if id(p) not in kept], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def _rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over a twentieth of the steps, then a cosine to a hundredth of the peak."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))


def _draw_compression(rng: np.random.Generator, card: ModelCard) -> dict[str, Any]:
    fractions = (1.0, 0.75, 0.5, 0.25, 0.25, 1 / 6)
    return {
        "cut": int(rng.integers(1, card.depth)),
        "keep": float(np.exp(rng.uniform(np.log(0.1), 0.0))),
        "dims": max(1, int(card.dim * fractions[rng.integers(len(fractions))])),
        "bits": int((8, 6, 4, 4, 3, 2, 2)[rng.integers(7)]),
    }


@torch.no_grad()
def _accuracies(network: SplitViT, images: Tensor, labels: np.ndarray) -> list[float]:
    network.eval()
    answers = []
    for part in images.split(128):
        qbar, found = None, []
        for q in network(part):
            qbar = running_logits(qbar, q.cpu().numpy())
            found.append(qbar.argmax(axis=-1))
        answers.append(np.stack(found))
    network.train()
    return [float(x) for x in (np.concatenate(answers, axis=1) == labels).mean(axis=1)]


class _Run:
    """The state of one training: networks, optimiser, epoch; and how it is checkpointed."""

    def __init__(self, config: TrainConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.device = _device(config.accelerator)
        self.card = config.card()
        torch.manual_seed(config.seed)
        self.network = SplitViT(self.card).to(self.device)
        self.bottlenecks = [Bottleneck(self.card.dim).to(self.device) for _ in range(1, self.card.depth)]
        self.epoch = 0
        self.seconds = 0.0
        self.optimizer = _optimizer([self.network], config.backbone_rate, config.weight_decay)

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def fragments(self) -> int:
        """Fragments on the canvases of this epoch."""
        ramp = self.config.parts()[0] // 6
        return clutter.FRAGMENTS if self.epoch >= ramp else clutter.FRAGMENTS * self.epoch // ramp

    def begin_mixed(self) -> None:
        modules = [self.network, *self.bottlenecks]
        self.optimizer = _optimizer(modules, self.config.mixed_rate, self.config.weight_decay)

    @torch.no_grad()
    def start_bottlenecks(self) -> None:
        images, _ = clutter.training_canvases(self.config.seed, 1 << 20, 1)
        self.network.eval()
        x = self.network.embed(_normalised(images[:300], self.card).to(self.device))
        for cut, bottleneck in enumerate(self.bottlenecks, start=1):
            x, _ = self.network.run(x, cut - 1, cut)
            bottleneck.start_from(x.reshape(-1, self.card.dim))
        self.network.train()

    def save(self) -> None:
        state = {
            "config": self.config.model_dump_json(exclude={"accelerator", "threads"}),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "bottlenecks": [b.state_dict() for b in self.bottlenecks],
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.checkpoint.with_suffix(".part")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def resume(self) -> bool:
        if not self.checkpoint.exists():
            return False
        try:
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        except Exception as error:  # torch raises half a dozen kinds here
            raise DataError(f"cannot read {self.checkpoint}; remove it to train anew") from error
        if state["config"] != self.config.model_dump_json(exclude={"accelerator", "threads"}):
            raise UsageError(
                f"{self.checkpoint} is of another configuration; give another --out or remove it"
            )
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.network.load_state_dict(state["network"])
        for bottleneck, values in zip(self.bottlenecks, state["bottlenecks"], strict=True):
            bottleneck.load_state_dict(values)
        if self.epoch > self.config.parts()[0]:
            self.begin_mixed()
        self.optimizer.load_state_dict(state["optimizer"])
        return True

    def one_epoch(self, tick: Any) -> float:
        config = self.config
        backbone, mixed = config.parts()
        in_mixed = self.epoch >= backbone
        if self.epoch == backbone:
            self.start_bottlenecks()
            self.begin_mixed()
        images, labels = clutter.training_canvases(
            config.seed, self.epoch, config.canvases_per_digit, self.fragments()
        )
        steps = len(images) // config.batch
        draws = generator(config.seed, "compression-training", self.epoch)
        total = 0.0
        for step in range(steps):
            part = slice(step * config.batch, (step + 1) * config.batch)
            x = _normalised(images[part], self.card).to(self.device)
            y = torch.from_numpy(labels[part]).to(self.device)
            if in_mixed:
                peak, done, all_steps = config.mixed_rate, self.epoch - backbone, mixed * steps
                drawn = _draw_compression(draws, self.card)
                bottleneck = self.bottlenecks[drawn["cut"] - 1]
                loss = mixed_loss(
                    self.network, bottleneck, x, y, margin=config.margin, ce_weight=config.ce_weight, **drawn
                )
            else:
                peak, done, all_steps = config.backbone_rate, self.epoch, backbone * steps
                loss = backbone_loss(self.network, x, y, config.label_smoothing)
            for group in self.optimizer.param_groups:
                group["lr"] = _rate(done * steps + step, all_steps, peak)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            total += loss.item()
            tick()
        self.epoch += 1
        return total / max(1, steps)

    def codec(self) -> dict[str, np.ndarray]:
        return {
            f"codec.{cut}.{name}": value.detach().cpu().numpy()
            for cut, bottleneck in enumerate(self.bottlenecks, start=1)
            for name, value in bottleneck.named_parameters()
        }


def train(config: TrainConfig, out: Path) -> Path:
    """Train and write `out`/clutter.safetensors; returns its path.

    `out` also gets checkpoint.pt (resumed from when it is there) and logs/ for TensorBoard. The card records
    the configuration, the time and the accuracy at every exit on the evaluation split. Needs the extra `sim`.
    """
    from torch.utils.tensorboard import SummaryWriter

    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}") from error
    if config.threads:
        torch.set_num_threads(config.threads)
    run = _Run(config, out)
    run.resume()
    held_out, held_labels = clutter.canvas_split("calibration")
    held = _normalised(held_out, run.card).to(run.device)
    epochs = sum(config.parts())
    steps = config.canvases_per_digit * clutter.SPLIT_SIZES["train"] // config.batch
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with SummaryWriter(str(out / "logs")) as log, Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training clutter", total=epochs * steps, completed=run.epoch * steps)
        while run.epoch < epochs:
            began = time.perf_counter()
            loss = run.one_epoch(lambda: bar.advance(task))
            run.seconds += time.perf_counter() - began
            found = _accuracies(run.network, held, held_labels)
            log.add_scalar("loss", loss, run.epoch)
            for after, value in zip(config.exits, found, strict=True):
                log.add_scalar(f"calibration_accuracy/block_{after}", value, run.epoch)
            shown = " ".join(f"{value:.3f}" for value in found)
            bar.update(task, description=f"epoch {run.epoch}/{epochs} loss {loss:.3f} accuracy {shown}")
            run.save()
    images, labels = clutter.canvas_split("evaluation")
    accuracy = _accuracies(run.network, _normalised(images, run.card).to(run.device), labels)
    record: dict[str, object] = {
        "command": f"splitpoint train clutter --seed {config.seed} --out DIR",
        "config": config.model_dump(exclude={"accelerator", "threads"}, mode="json"),
        "seconds": round(run.seconds, 1),
        "device": str(run.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "evaluation_accuracy": [round(value, 4) for value in accuracy],
    }
    path = out / "clutter.safetensors"
    save_network(path, run.network, run.card.model_copy(update={"training": record}), run.codec())
    return path
