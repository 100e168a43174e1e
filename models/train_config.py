"""What decides the weights of a trained network, and where they are computed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..errors import UsageError, did_you_mean
from . import clutter
from .accelerator import Accelerator
from .card import ModelCard
from .regimes import Regime

__all__ = ["TrainConfig", "named_inputs", "network_config"]


class TrainConfig(BaseModel):
    """Configuration of `train`; `accelerator` and `threads` are where, all else is what.

    network  "clutter", "cifar10", or the name of somebody's own; `start` is the id of the model that one
             starts from (`own.own_config`)

    An epoch shows `views` augmented views of each training sample, of stored images mirrored ones too where `flip` is
    set. `epochs`, when set, replaces both counts and is shared out as they are. `threads` 0 leaves torch's own number.

    regime       which part learns when (`regimes`); "joint" knows no backbone epochs: all are of both kinds' sum
    token_share  of an image's patch tokens, at random, that the backbone's first three quarters see
                 (PatchDropout, arXiv 2208.07220): fewer tokens are less time, and a tail that will be sent few
                 of them learns to live with it
    stem_weight  of a second classifier's loss, on the stem's mean token, in the backbone's training: so the
                 stem learns before the attention does
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = "clutter"
    start: str = ""
    seed: int = Field(0, ge=0, lt=1 << 64)
    epochs: int | None = Field(None, ge=2)
    backbone_epochs: int = Field(48, ge=1)
    mixed_epochs: int = Field(28, ge=1)
    regime: Regime = "mixed"
    views: int = Field(2, ge=1)
    flip: bool = True
    batch: int = Field(64, ge=2)
    backbone_rate: float = Field(1e-3, gt=0)
    mixed_rate: float = Field(6e-4, gt=0)
    token_share: float = Field(1.0, gt=0, le=1)
    stem_weight: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    margin: float = Field(0.2, ge=0)
    ce_weight: float = Field(0.5, ge=0)
    accelerator: Accelerator = "auto"
    threads: int = Field(0, ge=0)
    dim: int = 96
    depth: int = Field(6, ge=2)
    heads: int = 3
    mlp_ratio: float = 2.0
    exits: tuple[int, ...] = (2, 4, 6)
    exit_state_dim: int = 48

    def parts(self) -> tuple[int, int]:
        """Epochs of the backbone, epochs of all exits."""
        if self.regime == "joint":
            return 0, self.epochs or self.backbone_epochs + self.mixed_epochs
        if self.epochs is None:
            return self.backbone_epochs, self.mixed_epochs
        share = self.backbone_epochs / (self.backbone_epochs + self.mixed_epochs)
        backbone = min(self.epochs - 1, max(1, round(share * self.epochs)))
        return backbone, self.epochs - backbone

    def identity(self) -> str:
        """Text that is equal for configurations that lead to the same weights."""
        # Checkpoints of the default regime do not name it: there was a time when it was the only one.
        default = {"regime"} if self.regime == "mixed" else set()
        return self.model_dump_json(exclude={"accelerator", "threads"} | default)

    def card(self) -> ModelCard:
        """The card, not yet with an id, of a network that starts from nothing."""
        return ModelCard(
            name=self.network,
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            exits=self.exits,
            exit_state_dim=self.exit_state_dim,
            **_INPUTS[self.network],
        )


_INPUTS: dict[str, dict[str, Any]] = {
    "clutter": {
        "image_size": (clutter.CANVAS, clutter.CANVAS),
        "channels": 1,
        "classes": tuple("0123456789"),
        "mean": (0.2,),
        "std": (0.18,),
        "stem": "conv",
        "patch": 8,
    },
    "cifar10": {
        "image_size": (32, 32),
        "channels": 3,
        "classes": (
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        "mean": (0.491, 0.482, 0.447),
        "std": (0.247, 0.244, 0.262),
        "stem": "conv",
        "stem_widths": (32, 96),
        "stem_blocks": (1, 1),
        "patch": 4,
    },
}


def named_inputs(name: str) -> dict[str, Any]:
    """What every network for a named data set takes and tells apart: sizes, classes, mean and std."""
    wanted = ("image_size", "channels", "classes", "mean", "std")
    return {field: _INPUTS[name][field] for field in wanted}


_NETWORKS: dict[str, dict[str, Any]] = {
    "clutter": {},
    "cifar10": {
        "backbone_epochs": 75,
        "mixed_epochs": 25,
        "views": 1,
        "backbone_rate": 8e-4,
        "mixed_rate": 5e-4,
        "token_share": 0.5,
        "stem_weight": 0.3,
    },
}
"""What each named network's training does otherwise than TrainConfig's defaults."""


def network_config(name: str, **changes: Any) -> TrainConfig:
    """The configuration that trains a named network, with changes. UsageError for an unknown name."""
    if name not in _NETWORKS:
        raise UsageError(f"unknown network '{name}'; {did_you_mean(name, _NETWORKS)}")
    return TrainConfig.model_validate({"network": name} | _NETWORKS[name] | changes)
