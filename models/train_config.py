"""What decides the weights of the default network, and where they are computed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from . import clutter
from .card import ModelCard

__all__ = ["TrainConfig"]


class TrainConfig(BaseModel):
    """Configuration of `train`; `accelerator` and `threads` are where, all else is what.

    An epoch is `canvases_per_digit` fresh canvases of each of the 1000 training digits. `epochs`, when set,
    replaces both counts, three fifths for the backbone. `threads` 0 leaves torch's own number.
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

    def fragments(self, epoch: int) -> int:
        """Fragments on the canvases of one epoch: they become more over the backbone's first sixth."""
        ramp = self.parts()[0] // 6
        return clutter.FRAGMENTS if epoch >= ramp else clutter.FRAGMENTS * epoch // ramp

    def identity(self) -> str:
        """Text that is equal for configurations that lead to the same weights."""
        return self.model_dump_json(exclude={"accelerator", "threads"})

    def card(self) -> ModelCard:
        """The network's card, not yet with an id."""
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
