"""Training of the codec's bottlenecks behind a network that stays as it is.

Step: samples of the cached activations at the cut; keep, dims and bits for all of them. With p_i what exit i says
on all tokens, and p'_i on what the codec leaves of them,

    L = sum over exits behind the cut of w_i KL(p_i || p'_i) + r mean bits,   w_i = 1 for the last, else .3
    bits = -log2(F_j(c + h/2) - F_j(c - h/2))

of every code, c its cell's middle and h the cell's width; F_j is a logistic distribution for each dim that learns
along, and stands for the tables that are fitted afterwards (the rate of arXiv 1802.01436). With r it is the
bottleneck that learns to send dims that are cheap to code. No labels are read: the network is its own teacher.
All draws are keyed by (seed, cut, step), so that a run that was killed goes on to the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from ..seeding import generator
from .accelerator import Accelerator
from .activations import Activations, cached_activations, check_cuts, tail_logits
from .card import ModelCard
from .checkpoint import read_checkpoint, write_checkpoint
from .compression import Bottleneck, quantised_cells, select
from .optimizers import rate_factor
from .rest import select_with_rest
from .training_data import TrainingData, identity_on
from .vit import SplitViT

__all__ = ["CodecConfig", "check_checkpoints", "received", "train_bottleneck"]

_SAVE_EVERY = 200
_DIM_SHARES = (1.0, 1 / 2, 1 / 3, 1 / 3, 1 / 4, 1 / 6)
_BITS = (8, 4, 4, 3, 3, 2)
_KEEPS = (0.02, 0.6)
"""Small dims, few bits and few tokens come oftener: they need it."""


class CodecConfig(BaseModel):
    """Configuration of one training.

    rest           a rest token stands for the patches that are not sent (codec/selection.py)
    rate_weight    r, on the mean bits of a value
    density_rate   learning rate of the distributions
    samples        activations that are cached; views of the training images, fresh as far as they go
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0)
    cuts: tuple[int, ...] = ()
    rest: bool = True
    steps: int = Field(6000, ge=1)
    batch: int = Field(128, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    density_rate: float = Field(3e-2, gt=0)
    rate_weight: float = Field(0.03, ge=0)
    samples: int = Field(24000, ge=64)
    accelerator: Accelerator = "auto"

    def identity(self, model: str) -> str:
        """Text that is equal for configurations that lead to the same bottlenecks of `model`, an id."""
        return f"{model} {self.model_dump_json(exclude={'accelerator', 'cuts'})}"


class _Density(nn.Module):
    """A logistic distribution a dim, of bottleneck values."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def bits(self, middle: Tensor, width: Tensor) -> Tensor:
        """Code length of cells around `middle` (B, T, dims), `width` (B, T, 1) wide."""
        dims = middle.shape[-1]
        mean, scale = self.mean[:dims], self.log_scale[:dims].exp()
        above, below = (torch.sigmoid((middle + side * width / 2 - mean) / scale) for side in (1.0, -1.0))
        return -torch.log2((above - below).clamp(min=1e-6))


def received(
    bottleneck: Bottleneck, known: Activations, keep: float, dims: int, bits: int, rest: bool
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Tokens as the server gets them, their keys, and of their codes the cells' middles and widths."""
    tokens = known.tokens.float()
    x, keys = (
        select_with_rest(tokens, known.scores, keep) if rest else (select(tokens, known.scores, keep), None)
    )
    middle, width = quantised_cells(bottleneck.project(x, dims), bits)
    return bottleneck.reconstruct(middle), keys, middle, width


def check_checkpoints(
    card: ModelCard, data: TrainingData, config: CodecConfig, cuts: Iterable[int], folder: Path
) -> None:
    """UsageError where `folder` holds a checkpoint of another configuration for one of the cuts."""
    for cut in cuts:
        read_checkpoint(*_checkpoint(card, data, config, cut, folder), "cpu")


def _checkpoint(
    card: ModelCard, data: TrainingData, config: CodecConfig, cut: int, folder: Path
) -> tuple[Path, str]:
    return folder / f"cut-{cut}.pt", identity_on(config.identity(card.id), data)


def train_bottleneck(
    network: SplitViT,
    bottleneck: Bottleneck,
    data: TrainingData,
    config: CodecConfig,
    cut: int,
    folder: Path,
    tick: Callable[[int, float], None],
) -> Bottleneck:
    """Train the bottleneck of one cut, from where it stands in the model's file; returns it.

    `folder` holds its checkpoint, from which a later call goes on; tick(step, loss).

    UsageError as of `check_cuts` and `check_checkpoints`.
    """
    card = network.card
    check_cuts(card, (cut,))
    network.eval().requires_grad_(False)
    device = next(network.parameters()).device
    bottleneck, density = bottleneck.to(device), _Density(card.dim).to(device)
    checkpoint, identity = _checkpoint(card, data, config, cut, folder)
    state = read_checkpoint(checkpoint, identity, device)
    optimizer = torch.optim.Adam(
        [
            {"params": list(bottleneck.parameters()), "peak": config.learning_rate},
            {"params": list(density.parameters()), "peak": config.density_rate},
        ]
    )
    first = 0
    if state is not None:
        bottleneck.load_state_dict(state["bottleneck"])
        density.load_state_dict(state["density"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    if first == config.steps:
        return bottleneck
    known = cached_activations(network, data, cut, config.samples)
    taught = _taught(network, known, cut)
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate_factor(step, config.steps)
        loss = _loss(network, bottleneck, density, known, taught, config, cut, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(bottleneck.parameters(), 1.0)
        optimizer.step()
        tick(step + 1, loss.item())
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == config.steps:
            state = {
                "step": step + 1,
                "bottleneck": bottleneck.state_dict(),
                "density": density.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            write_checkpoint(checkpoint, identity, state)
    return bottleneck


@torch.no_grad()
def _taught(network: SplitViT, known: Activations, cut: int) -> Tensor:
    """What the exits behind the cut say on all tokens: probabilities (exits, N, C), on the CPU."""
    device, parts = next(network.parameters()).device, []
    for rows in torch.arange(len(known.labels)).split(128):
        here = known.at(rows).to(device)
        parts.append(torch.stack(tail_logits(network, here.tokens.float(), cut, here)).softmax(dim=-1).cpu())
    return torch.cat(parts, dim=1)


def _loss(
    network: SplitViT,
    bottleneck: Bottleneck,
    density: _Density,
    known: Activations,
    taught: Tensor,
    config: CodecConfig,
    cut: int,
    step: int,
) -> Tensor:
    rng, dim = generator(config.seed, "codec-training", cut, step), network.card.dim
    device = next(network.parameters()).device
    rows = torch.from_numpy(rng.integers(0, len(known.labels), config.batch))
    here = known.at(rows).to(device)
    keep = float(np.exp(rng.uniform(*np.log(_KEEPS))))
    dims = max(1, int(dim * _DIM_SHARES[rng.integers(len(_DIM_SHARES))]))
    bits = _BITS[rng.integers(len(_BITS))]
    x, keys, middle, width = received(bottleneck, here, keep, dims, bits, config.rest)
    logits = tail_logits(network, x, cut, here, keys=keys)
    loss = config.rate_weight * density.bits(middle, width).mean()
    for place, (qbar, p) in enumerate(zip(logits, taught[:, rows].to(device), strict=True)):
        weight = 1.0 if place == len(logits) - 1 else 0.3
        loss = loss + weight * functional.kl_div(qbar.log_softmax(dim=-1), p, reduction="batchmean")
    return loss
