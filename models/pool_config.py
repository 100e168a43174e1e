"""The pools that `splitpoint train-pool` trains: small learners that differ in kind, width, depth and kernels.

Eight for CIFAR-10, 3 gates each, so that their gates are aligned. They are listed in the order of training: any
first three of them already differ.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import UsageError, did_you_mean
from ..seeding import generator
from .card import ModelCard
from .conv_card import ConvCard, ConvStage
from .regimes import Regime
from .train_config import named_inputs

__all__ = ["LearnerConfig", "pool_configs"]


class LearnerConfig(BaseModel):
    """Configuration of one learner's training.

    share           of the training samples that this learner sees, drawn by its seed: learners differ the more
    regime          which part learns when (`regimes`)
    backbone_share  of the epochs, spent on the backbone alone (mixed and disjoint)
    small_share     of the epochs, the first ones, on images of three quarters of the side, which take half the time;
                    for a `SplitConv` without a shared head
    rate            peak of the learning rate: it rises for a fifth of the steps, then falls as a cosine
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    card: ConvCard | ModelCard
    seed: int = Field(0, ge=0)
    epochs: int = Field(7, ge=1)
    batch: int = Field(128, ge=2)
    share: float = Field(0.9, gt=0, le=1)
    regime: Regime = "mixed"
    backbone_share: float = Field(0.2, ge=0, le=1)
    small_share: float = Field(0.0, ge=0, le=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    rate: float = Field(0.1, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    margin: float = Field(0.2, ge=0)
    ce_weight: float = Field(1.0, ge=0)

    @property
    def name(self) -> str:
        return self.card.name

    def backbone_epochs(self) -> int:
        """Epochs of the last exit alone; at least one is left for all exits together."""
        return (
            0
            if self.regime == "joint"
            else min(self.epochs - 1, max(1, round(self.backbone_share * self.epochs)))
        )

    def identity(self) -> str:
        """Text that is equal for configurations that lead to the same weights."""
        return self.model_dump_json()


def _stages(*values: tuple[int, int], **common: Any) -> tuple[ConvStage, ...]:
    return tuple(ConvStage(width=width, blocks=blocks, **common) for width, blocks in values)


# Pools are trained for so few epochs that the early exits' gradients help the backbone more than they disturb it:
# benchmarks/regimes.py finds joint training ahead of mixed at every gate.
_CONV = {"exits": (1, 2, 3), "exit_state_dim": 64}
_SGD = {"regime": "joint", "optimizer": "sgd", "small_share": 0.5, "rate": 0.1, "weight_decay": 5e-4}
_VIT: dict[str, Any] = {
    "exits": (1, 2, 3),
    "depth": 3,
    "exit_state_dim": 64,
    "mlp_ratio": 2.0,
    "stem": "conv",
}
_ADAMW = {"regime": "joint", "optimizer": "adamw", "rate": 2e-3, "weight_decay": 0.05}

_POOLS: dict[str, dict[str, tuple[type[ConvCard] | type[ModelCard], dict[str, Any], dict[str, Any]]]] = {
    "cifar10": {
        "residual": (
            ConvCard,
            {"stem_width": 16, "stages": _stages((24, 1), (48, 1), (112, 1))} | _CONV,
            _SGD,
        ),
        "vit-coarse": (
            ModelCard,
            {"patch": 8, "stem_widths": (16, 40, 80), "stem_blocks": (1, 1, 0), "dim": 112, "heads": 4}
            | _VIT,
            _ADAMW,
        ),
        "plain": (
            ConvCard,
            {
                "stem_width": 16,
                "stages": _stages((24, 0), (48, 1), (112, 1), kind="plain", down="max"),
                "pool": "max",
            }
            | _CONV,
            _SGD,
        ),
        "wide": (
            ConvCard,
            {
                "stem_width": 24,
                "stem_stride": 2,
                "stem_kernel": 5,
                "activation": "silu",
                "pool": "both",
                "stages": (ConvStage(width=28, down="none"), ConvStage(width=56), ConvStage(width=112)),
            }
            | _CONV,
            _SGD,
        ),
        "inverted": (
            ConvCard,
            {
                "stem_width": 24,
                "stem_stride": 2,
                "activation": "hardswish",
                "stages": (
                    ConvStage(width=32, kind="inverted", down="none"),
                    ConvStage(width=64, blocks=2, kind="inverted", kernel=5),
                    ConvStage(width=128, blocks=2, kind="inverted"),
                ),
            }
            | _CONV,
            _SGD,
        ),
        "deep": (
            ConvCard,
            {"stem_width": 16, "pool": "both", "stages": _stages((20, 1), (36, 2), (72, 3))} | _CONV,
            _SGD,
        ),
        "kernels": (
            ConvCard,
            {
                "stem_width": 16,
                "stem_stride": 2,
                "stem_kernel": 5,
                "activation": "gelu",
                "stages": (
                    ConvStage(width=32, kind="plain", down="none"),
                    ConvStage(width=48, kind="plain", kernel=5),
                    ConvStage(width=112, kind="plain"),
                ),
            }
            | _CONV,
            _SGD,
        ),
        "vit-fine": (
            ModelCard,
            {"patch": 4, "stem_widths": (16, 40), "stem_blocks": (1, 1), "dim": 48, "heads": 3} | _VIT,
            _ADAMW,
        ),
    }
}
"""For each pool, by the learners' names: kind of card, its fields, and what the training does otherwise."""


def pool_configs(pool: str, seed: int = 0, **changes: Any) -> list[LearnerConfig]:
    """The configurations of a pool's learners, named POOL-NAME, each with a seed of its own that follows from `seed`.

    UsageError for an unknown pool.
    """
    if pool not in _POOLS:
        raise UsageError(f"unknown pool '{pool}'; {did_you_mean(pool, _POOLS)}")
    found = []
    for place, (name, (kind, fields, training)) in enumerate(_POOLS[pool].items()):
        card = kind.model_validate(named_inputs(pool) | fields | {"name": f"{pool}-{name}"})
        own = int(generator(seed, "learner", place).integers(1 << 31))
        found.append(LearnerConfig.model_validate({"card": card, "seed": own} | training | changes))
    return found
