"""Training of joint source-channel codes (arXiv 2505.17604) behind a network that stays as it is.

Step: samples of the cached activations at the cut, a kept fraction, an exit behind the cut; for each sample a true
SNR, an estimate of it, and, but in a dedicated pair, a count of symbols. Loss = mean cross-entropy of the exits up
to the drawn one (blocks behind it need not be run), on what the decoder makes of the noisy symbols, + w times the
mean squared error of the tokens in units of their spread.
Every draw is keyed by (seed, cut, step), so that a run that was killed goes on to the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from ..codec.symbols import SNR_LIMIT_DB, symbol_count
from ..seeding import generator
from .accelerator import Accelerator
from .activations import Activations, cached_activations, check_cuts, tail_logits
from .checkpoint import read_checkpoint, write_checkpoint
from .compression import select
from .jscc import JointCode, through_noise
from .training_data import TrainingData, identity_on
from .vit import SplitViT

__all__ = ["JsccConfig", "drawn_symbols", "train_code"]

_SAVE_EVERY = 200
_OCTAVES = 5.6
"""Span of the drawn counts, at least: with few symbols, more than they have, so that one is drawn oftener."""


class JsccConfig(BaseModel):
    """Configuration of one training.

    symbols        complex symbols a token over d: the most that the nested code sends
    dedicated      train for that one rate only, as the paper does; else for all up to it
    hidden         units of the layers; 0: twice d
    keeps          fractions of the patches kept, one of them drawn a step
    samples        activations that are cached; views of the training images, fresh as far as they go
    estimate_db    standard deviation of the sender's SNR estimate
    reconstruction weight w of the squared error
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, lt=1 << 64)
    cuts: tuple[int, ...] = (1,)
    steps: int = Field(9600, ge=1)
    batch: int = Field(32, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    symbols: float = Field(0.5, gt=0, le=1)
    dedicated: bool = False
    hidden: int = Field(0, ge=0)
    keeps: tuple[float, ...] = (0.125, 0.25, 0.25, 0.5)
    samples: int = Field(40000, ge=64)
    estimate_db: float = Field(1.5, ge=0)
    reconstruction: float = Field(0.1, ge=0)
    accelerator: Accelerator = "auto"

    def identity(self, network: str) -> str:
        """Text that is equal for configurations that lead to the same weights behind `network`, an id."""
        return f"{network} {self.model_dump_json(exclude={'accelerator', 'cuts'})}"


def train_code(
    network: SplitViT,
    data: TrainingData,
    config: JsccConfig,
    cut: int,
    folder: Path,
    tick: Callable[[int, float], None],
) -> JointCode:
    """The code of one cut. `folder` holds its checkpoint, from which a later call goes on; tick(step, loss).

    UsageError as of `check_cuts`, and for a checkpoint of another configuration.
    """
    card = network.card
    check_cuts(card, (cut,))
    network.eval().requires_grad_(False)
    device = next(network.parameters()).device
    checkpoint, identity = folder / f"cut-{cut}.pt", identity_on(config.identity(card.id), data)
    state = read_checkpoint(checkpoint, identity, device)
    most = symbol_count(card.dim, config.symbols)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        code = JointCode(card.dim, most, config.hidden or 2 * card.dim).to(device)
    optimizer = torch.optim.AdamW(
        code.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4
    )
    first = 0
    if state is not None:
        code.load_state_dict(state["code"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    if first == config.steps:
        return code.eval()
    known = cached_activations(network, data, cut, config.samples)
    if state is None:
        code.start_from(known.tokens[:500].float().reshape(-1, card.dim))
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config.steps)
        loss = _loss(network, code, known, config, cut, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(code.parameters(), 1.0)
        optimizer.step()
        tick(step + 1, loss.item())
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == config.steps:
            _save(checkpoint, identity, code, optimizer, step + 1)
    return code.eval()


def _loss(
    network: SplitViT, code: JointCode, known: Activations, config: JsccConfig, cut: int, step: int
) -> Tensor:
    rng = generator(config.seed, "jscc-training", cut, step)
    exits = network.card.exits_within(cut, network.card.depth)
    device, count = next(network.parameters()).device, config.batch
    here = known.at(torch.from_numpy(rng.integers(0, len(known.labels), count))).to(device)
    keep = config.keeps[rng.integers(len(config.keeps))]
    x = select(here.tokens.float(), here.scores, keep)
    snr_db = rng.uniform(-SNR_LIMIT_DB, SNR_LIMIT_DB, count)
    estimate = snr_db + config.estimate_db * rng.standard_normal(count)
    symbols = np.full(count, code.symbols)
    if not config.dedicated:
        symbols = drawn_symbols(rng, code.symbols, count)
    noise = rng.standard_normal((*x.shape[:2], code.symbols, 2), dtype=np.float32)
    true, told, m = (
        torch.from_numpy(np.asarray(v, np.float32)).to(device) for v in (snr_db, estimate, symbols)
    )
    sent = code.encode(x, told, m)
    decoded = code.decode(through_noise(sent, torch.from_numpy(noise).to(device), true, m), told, m)
    error = ((decoded - x) / code.scale).square().mean()
    last = exits[rng.integers(len(exits))]
    logits = tail_logits(network, decoded, cut, here, network.card.exits[last])
    task = torch.stack([functional.cross_entropy(qbar, here.labels) for qbar in logits]).mean()
    return task + config.reconstruction * error


def drawn_symbols(rng: np.random.Generator, most: int, count: int) -> np.ndarray:
    """Counts of symbols from 1 to `most`, (count,): about log-uniform, the many a little oftener, as they have more
    to learn."""
    octaves = max(_OCTAVES, math.log2(most))
    symbols: np.ndarray = np.maximum(1, np.rint(most * 2.0 ** (-octaves * rng.random(count) ** 1.5)))
    return symbols


def _schedule(step: int, steps: int) -> float:
    """Warm-up over the first hundred steps at most, then a cosine to a fiftieth."""
    warm = min(100, max(1, steps // 10))
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _save(path: Path, identity: str, code: JointCode, optimizer: torch.optim.Optimizer, step: int) -> None:
    state = {"step": step, "code": code.state_dict(), "optimizer": optimizer.state_dict()}
    write_checkpoint(path, identity, state)
