"""Training of gates for a network that exists: the phase after the mixed one (`gates.py` tells the method).

1. Scores and thresholds are fitted in closed form on training samples (`gate_start.py`).
2. Network, bottlenecks and gates learn together from `gate_losses.gated_loss`: alpha is drawn for each sample,
   cut, dims and bits for each step. A part of the steps is the mixed loss at keep 1, which has no gates.
3. Thresholds are fitted once more.

With no steps only the first is done: the network stays as it is, and answers at keep 1 as it did. All draws are
keyed by (seed, step), and a run that was killed goes on from its last checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ..seeding import generator
from .accelerator import Accelerator, training_device
from .checkpoint import read_checkpoint, write_checkpoint
from .compression import Bottleneck
from .gate_losses import gated_loss
from .gate_start import fit_thresholds, start_gates
from .gated import with_gates
from .losses import mixed_loss
from .optimizers import rate_factor
from .preprocess import normalise
from .train_run import draw_compression
from .training_data import TrainingData, identity_on
from .vit import SplitViT

__all__ = ["GateConfig", "GateRun"]

_FIRST_EPOCH = 1 << 21  # views that the training of the network has not seen
_CHECKPOINT_EVERY = 50


class GateConfig(BaseModel):
    """Configuration of the gates' training; accelerator is where, all else is what.

    rate, gate_rate  peak rates of the network and of its gates, which learn from raw tokens
    plain_share      part of the steps without gates
    outer, inner     w_out and w_in of the loss
    fitted_to        training samples that gates are fitted to
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, lt=1 << 64)
    steps: int = Field(0, ge=0)
    batch: int = Field(64, ge=2)
    rate: float = Field(1e-4, gt=0)
    gate_rate: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    least_alpha: float = Field(0.08, gt=0, lt=1)
    plain_share: float = Field(0.25, ge=0, lt=1)
    outer: float = Field(5.0, ge=0)
    inner: float = Field(5.0, ge=0)
    margin: float = Field(0.2, ge=0)
    ce_weight: float = Field(0.5, ge=0)
    fitted_to: int = Field(512, ge=32)
    accelerator: Accelerator = "auto"

    def identity(self) -> str:
        """Text that is equal for configurations that lead to the same gates."""
        return self.model_dump_json(exclude={"accelerator"})


class GateRun:
    """One such training. `checkpoint`, where it lies, is what `run` goes on from.

    codec  the model's `codec.*` arrays; identity maps where there are none
    """

    def __init__(
        self,
        config: GateConfig,
        network: SplitViT,
        codec: dict[str, np.ndarray],
        data: TrainingData,
        checkpoint: Path,
    ) -> None:
        self.config, self.data, self.checkpoint = config, data, checkpoint
        self._identity = identity_on(f"{config.identity()} of {network.card.id}", data)
        # Statistics of the stem stay: what is trained is the arithmetic that will run.
        self._device = training_device(config.accelerator)
        self.network = with_gates(network, config.seed).eval().to(self._device)
        self.card = self.network.card
        self.bottlenecks = [
            Bottleneck.from_arrays(codec, cut, self.card.dim).to(self._device)
            for cut in range(1, self.card.depth)
        ]
        self.step = 0
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None
        gates = list(self.network.gates.parameters())
        named = [p for name, p in self.network.named_parameters() if not name.startswith("gates.")]
        others = [p for bottleneck in self.bottlenecks for p in bottleneck.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in named if p.ndim > 1], "weight_decay": config.weight_decay},
                {"params": [p for p in named if p.ndim <= 1] + others, "weight_decay": 0.0},
                {"params": gates, "weight_decay": 0.0},
            ],
            lr=config.rate,
            betas=(0.9, 0.98),
        )

    def run(self, tick: Callable[[int, float], None]) -> None:
        """Fit, train, fit; `tick(step, loss)` after each step. UsageError for another run's checkpoint."""
        some = self._input(self.data.epoch(_FIRST_EPOCH - 1)[0][: self.config.fitted_to])
        if not self._resume():
            start_gates(self.network, some)
        while self.step < self.config.steps:
            loss = self._one_step()
            self.step += 1
            if self.step % _CHECKPOINT_EVERY == 0:
                self._save()
            tick(self.step, loss)
        if self.config.steps:
            fit_thresholds(self.network, some)

    def codec_arrays(self, codec: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`codec` with the bottlenecks as they have become."""
        if not self.config.steps:
            return codec
        for cut, bottleneck in enumerate(self.bottlenecks, start=1):
            codec = codec | bottleneck.arrays(cut)
        return codec

    def _input(self, images: np.ndarray) -> Tensor:
        return torch.from_numpy(normalise(images, self.card)).to(self._device)

    def _batch(self) -> tuple[Tensor, Tensor]:
        if self._epoch is None:
            self._epoch = (0, *self.data.epoch(_FIRST_EPOCH))
        steps = len(self._epoch[1]) // self.config.batch
        epoch, place = divmod(self.step, max(1, steps))
        if epoch != self._epoch[0]:
            self._epoch = (epoch, *self.data.epoch(_FIRST_EPOCH + epoch))
        part = slice(place * self.config.batch, (place + 1) * self.config.batch)
        _, images, labels = self._epoch
        return self._input(images[part]), torch.from_numpy(labels[part]).to(self._device)

    def _one_step(self) -> float:
        config = self.config
        images, labels = self._batch()
        draws = generator(config.seed, "gate-training", self.step)
        drawn: dict[str, Any] = draw_compression(draws, self.card)
        bottleneck = self.bottlenecks[drawn["cut"] - 1]
        weights: dict[str, Any] = {"margin": config.margin, "ce_weight": config.ce_weight}
        if draws.random() < config.plain_share:
            loss = mixed_loss(self.network, bottleneck, images, labels, **weights, **drawn | {"keep": 1.0})
        else:
            del drawn["keep"]
            alpha = np.exp(draws.uniform(math.log(config.least_alpha), 0.0, len(labels)))
            loss = gated_loss(
                self.network,
                bottleneck,
                images,
                labels,
                alpha=torch.from_numpy(alpha.astype(np.float32)).to(images.device),
                outer=config.outer,
                inner=config.inner,
                **weights,
                **drawn,
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for group, rate in zip(
            self.optimizer.param_groups, (config.rate, config.rate, config.gate_rate), strict=True
        ):
            group["lr"] = rate * rate_factor(self.step, config.steps)
        self.optimizer.step()
        return float(loss.item())

    def _save(self) -> None:
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "bottlenecks": [b.state_dict() for b in self.bottlenecks],
            "optimizer": self.optimizer.state_dict(),
        }
        write_checkpoint(self.checkpoint, self._identity, state)

    def _resume(self) -> bool:
        state = read_checkpoint(self.checkpoint, self._identity, self._device)
        if state is None:
            return False
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        for bottleneck, values in zip(self.bottlenecks, state["bottlenecks"], strict=True):
            bottleneck.load_state_dict(values)
        self.optimizer.load_state_dict(state["optimizer"])
        return True
