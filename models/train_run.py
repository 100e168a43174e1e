"""One training in progress: networks, optimiser, epoch; how an epoch is run, and how it is checkpointed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..seeding import generator
from .accelerator import training_device
from .card import ModelCard
from .checkpoint import read_checkpoint, write_checkpoint
from .code_tables import code_tables
from .compression import Bottleneck
from .losses import backbone_loss, mixed_loss
from .optimizers import adamw, rate_factor
from .preprocess import normalise
from .regimes import freeze_backbone
from .train_config import TrainConfig
from .training_data import TrainingData, identity_on
from .vit import SplitViT

__all__ = ["CHECKPOINT", "TrainRun", "draw_compression"]

CHECKPOINT = "checkpoint.pt"

_OTHER_EPOCH = 1 << 20  # one that training never reaches


def draw_compression(rng: np.random.Generator, card: ModelCard) -> dict[str, Any]:
    """Cut, keep, dims and bits of one step; small dims and few bits come oftener, they need it."""
    fractions = (1.0, 0.75, 0.5, 0.25, 0.25, 1 / 6)
    return {
        "cut": int(rng.integers(1, card.depth)),
        "keep": float(np.exp(rng.uniform(np.log(0.1), 0.0))),
        "dims": max(1, int(card.dim * fractions[rng.integers(len(fractions))])),
        "bits": int((8, 6, 4, 4, 3, 2, 2)[rng.integers(7)]),
    }


class TrainRun:
    """State of `train`. `folder` holds CHECKPOINT, which `resume` reads and `save` writes."""

    def __init__(self, config: TrainConfig, network: SplitViT, data: TrainingData, folder: Path) -> None:
        self.config, self.data = config, data
        self.checkpoint = folder / CHECKPOINT
        self.device = training_device(config.accelerator)
        self.card = network.card
        self.network = network.train().to(self.device)
        # Convolutions are half again as fast with the channels last.
        self.network.patch_embed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bottlenecks = [Bottleneck(self.card.dim).to(self.device) for _ in range(1, self.card.depth)]
        self.probe = nn.Sequential(
            nn.BatchNorm1d(self.card.dim), nn.Linear(self.card.dim, self.card.class_count)
        ).to(self.device)
        self.epoch = 0
        self.seconds = 0.0
        self.optimizer = adamw(self.network, [self.probe], config.backbone_rate, config.weight_decay)

    def _begin_mixed(self) -> None:
        config = self.config
        self.optimizer = adamw(self.network, self.bottlenecks, config.mixed_rate, config.weight_decay)

    @torch.no_grad()
    def _activations(self, samples: int) -> list[tuple[Tensor, Tensor]]:
        """Tokens (B, n+1, d) and scores (B, n) after each block but the last, on training samples."""
        images, _ = self.data.epoch(_OTHER_EPOCH)
        self.network.eval()
        x = self.network.embed(self._input(images[:samples]))
        found = []
        for cut in range(1, self.card.depth):
            x, scores = self.network.run(x, cut - 1, cut)
            found.append((x, scores))
        self.network.train()
        return found

    def _some_tokens(self, batch: int, rng: np.random.Generator) -> Tensor:
        """int64 (batch, k): patch tokens drawn at random for each sample, the first is 1."""
        count = self.card.patch_tokens
        drawn = rng.random((batch, count)).argsort(axis=1)[
            :, : max(1, round(self.config.token_share * count))
        ]
        return torch.from_numpy(drawn + 1).to(self.device)

    def _input(self, images: np.ndarray) -> Tensor:
        return torch.from_numpy(normalise(images, self.card)).to(self.device)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        write_checkpoint(
            self.checkpoint,
            identity_on(self.config.identity(), self.data),
            {
                "epoch": self.epoch,
                "seconds": self.seconds,
                "network": self.network.state_dict(),
                "probe": self.probe.state_dict(),
                "bottlenecks": [b.state_dict() for b in self.bottlenecks],
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one. UsageError if it is of another configuration or other data."""
        identity = identity_on(self.config.identity(), self.data)
        state = read_checkpoint(self.checkpoint, identity, self.device)
        if state is None:
            return False
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.network.load_state_dict(state["network"])
        self.probe.load_state_dict(state["probe"])
        for bottleneck, values in zip(self.bottlenecks, state["bottlenecks"], strict=True):
            bottleneck.load_state_dict(values)
        if self.epoch > self.config.parts()[0]:
            self._begin_mixed()
        self.optimizer.load_state_dict(state["optimizer"])
        return True

    def one_epoch(self, tick: Callable[[], None]) -> float:
        """Train one epoch, calling `tick` after every step; returns the mean loss."""
        config = self.config
        backbone, mixed = config.parts()
        if self.epoch == backbone:
            for bottleneck, (tokens, _) in zip(self.bottlenecks, self._activations(300), strict=True):
                bottleneck.start_from(tokens.reshape(-1, self.card.dim))
            self._begin_mixed()
        in_mixed = self.epoch >= backbone
        freeze_backbone(self.network, in_mixed and config.regime == "disjoint")
        after = in_mixed and config.regime != "joint"
        peak, epochs = config.mixed_rate if after else config.backbone_rate, mixed if in_mixed else backbone
        done = self.epoch - backbone if in_mixed else self.epoch
        images, labels = self.data.epoch(self.epoch)
        steps = len(images) // config.batch
        draws = generator(config.seed, "compression-training", self.epoch)
        total = 0.0
        for step in range(steps):
            part = slice(step * config.batch, (step + 1) * config.batch)
            x, y = self._input(images[part]), torch.from_numpy(labels[part]).to(self.device)
            if in_mixed:
                drawn = draw_compression(draws, self.card)
                bottleneck = self.bottlenecks[drawn["cut"] - 1]
                loss = mixed_loss(
                    self.network, bottleneck, x, y, margin=config.margin, ce_weight=config.ce_weight, **drawn
                )
            else:
                few = self.epoch < 0.75 * backbone and config.token_share < 1
                order = self._some_tokens(len(y), draws) if few else None
                loss = backbone_loss(
                    self.network,
                    x,
                    y,
                    config.label_smoothing,
                    order=order,
                    probe=self.probe if config.stem_weight else None,
                    probe_weight=config.stem_weight,
                )
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            for group in self.optimizer.param_groups:
                group["lr"] = peak * rate_factor(done * steps + step, epochs * steps)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total += loss.item()
            tick()
        self.epoch += 1
        return total / max(1, steps)

    def codec_arrays(self) -> dict[str, np.ndarray]:
        """The bottlenecks as the codec reads them, and tables for the entropy coder fitted behind them."""
        arrays: dict[str, np.ndarray] = {}
        for cut, bottleneck in enumerate(self.bottlenecks, start=1):
            arrays |= bottleneck.arrays(cut)
        activations = (
            (cut, tokens.cpu().numpy(), scores.cpu().numpy())
            for cut, (tokens, scores) in enumerate(self._activations(96), start=1)
        )
        return arrays | code_tables(arrays, self.card.dim, activations)
