"""One learner's training in progress: network, optimiser, epoch; how an epoch is run, and how it is checkpointed.

The regimes are those of `regimes`. In the mixed one the rate rises and falls once over both parts, since a pool's
trainings are short. The loss of an exit is `losses.exit_loss` on its running logits (arXiv 2412.19587).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .accelerator import Accelerator, training_device
from .card import ModelCard
from .checkpoint import read_checkpoint, write_checkpoint
from .conv import SplitConv
from .conv_card import ConvCard
from .losses import exit_loss
from .optimizers import adamw, rate_factor, sgd
from .pool_config import LearnerConfig
from .preprocess import normalise
from .recursion import running_logits
from .regimes import freeze_backbone
from .shared_head import Behind, SharedHead
from .training_data import TrainingData
from .vit import SplitViT

__all__ = ["LearnerRun"]

_WARM_PART = 5


def _build_network(config: LearnerConfig) -> SplitConv | SplitViT:
    """The learner's network in its first state, which follows from the configuration's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        card = config.card
        return SplitViT(card) if isinstance(card, ModelCard) else SplitConv(card)


class LearnerRun:
    """State of one training. `checkpoint` is the file that `resume` reads and `save` writes.

    head  of a tail over a shared head: makes images into what the learner starts from; is moved to where this trains
    """

    def __init__(
        self,
        config: LearnerConfig,
        data: TrainingData,
        checkpoint: Path,
        head: SharedHead | None = None,
        accelerator: Accelerator = "auto",
    ) -> None:
        self.config, self.data, self.checkpoint, self.head = config, data, checkpoint, head
        self._device = training_device(accelerator)
        self.network = _build_network(config).train().to(self._device)
        if head is not None:
            head.network.to(self._device)
        # Convolutions are half again as fast with the channels last.
        convolutions = self.network.patch_embed if isinstance(self.network, SplitViT) else self.network
        convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.epoch = 0
        self.seconds = 0.0
        if config.optimizer == "sgd":
            self.optimizer: torch.optim.Optimizer = sgd(self.network, config.rate, config.weight_decay)
        else:
            self.optimizer = adamw(self.network, [], config.rate, config.weight_decay)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        write_checkpoint(
            self.checkpoint,
            self.config.identity(),
            {
                "epoch": self.epoch,
                "seconds": self.seconds,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one. UsageError if it is of another configuration."""
        state = read_checkpoint(self.checkpoint, self.config.identity(), self._device)
        if state is None:
            return False
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        return True

    @property
    def whole(self) -> SplitConv | SplitViT | Behind:
        """The network from images to logits, with the shared head before it if there is one."""
        if self.head is None or isinstance(self.network, SplitViT):
            return self.network
        return Behind(self.head, self.network)

    @property
    def input_card(self) -> ConvCard | ModelCard:
        """The card that says how images are normalised."""
        return self.config.card if self.head is None else self.head.card

    def _input(self, images: NDArray[np.uint8]) -> Tensor:
        x = torch.from_numpy(normalise(images, self.input_card)).to(self._device)
        if self.head is not None:
            x = self.head(x)
        elif (
            isinstance(self.network, SplitConv) and self.epoch < self.config.small_share * self.config.epochs
        ):
            x = functional.interpolate(x, scale_factor=0.75, mode="area")
        return x.contiguous(memory_format=torch.channels_last)

    def _rate(self, step: int, steps: int) -> float:
        """The rate of step `step` of the `steps` of this epoch."""
        first, last = 0, self.config.epochs
        if self.config.regime == "disjoint":
            backbone = self.config.backbone_epochs()
            first, last = (backbone, last) if self.epoch >= backbone else (0, backbone)
        done = (self.epoch - first) * steps + step
        return self.config.rate * rate_factor(done, (last - first) * steps, _WARM_PART)

    def _loss(self, images: Tensor, labels: Tensor, backbone_only: bool) -> Tensor:
        config = self.config
        if backbone_only:
            q = _last_logits(self.network, images)
            return functional.cross_entropy(q, labels, label_smoothing=config.label_smoothing)
        total, qbar = images.new_zeros(()), None
        for q in self.network(images):
            qbar = running_logits(qbar, q)
            total = total + exit_loss(qbar, labels, config.margin, config.ce_weight, config.label_smoothing)
        return total

    def one_epoch(self, tick: Callable[[], None]) -> float:
        """Train one epoch, calling `tick` after every step; returns the mean loss."""
        config = self.config
        backbone_only = self.epoch < config.backbone_epochs()
        freeze_backbone(self.network, config.regime == "disjoint" and not backbone_only)
        images, labels = self.data.epoch(self.epoch)
        steps = len(images) // config.batch
        total = 0.0
        for step in range(steps):
            part = slice(step * config.batch, (step + 1) * config.batch)
            x = self._input(images[part])
            loss = self._loss(x, torch.from_numpy(labels[part]).to(self._device), backbone_only)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(step, steps)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total += loss.item()
            tick()
        self.epoch += 1
        return total / max(1, steps)


def _last_logits(network: SplitConv | SplitViT, images: Tensor) -> Tensor:
    """Logits (B, classes) of the last exit by itself, from an empty state."""
    x, last = network.embed(images), len(network.card.exits) - 1
    if isinstance(network, SplitViT):
        x, _ = network.run(x, 0, network.card.depth)
    else:
        x = network.run(x, 0, len(network.stages))
    return network.exit(x, last)[0]
