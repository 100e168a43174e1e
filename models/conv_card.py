"""The card of a small convolutional learner: what `SplitConv` is built from. No torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ConvCard", "ConvStage"]


class ConvStage(BaseModel):
    """One stage: a convolution to `width` channels, then `blocks` of one kind; (B, w, h, b) to (B, width, h', b').

    down    how the sides are halved: "stride" (of the first convolution), "max" or "mean" pooling behind it, "none"
    kind    "residual": two convolutions beside a shortcut; "plain": one convolution; "inverted": 1x1 to twice the
            width, depthwise, 1x1 back, beside a shortcut
    kernel  side of the convolutions, odd; that of the depthwise one for "inverted", whose first one is 3x3
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(ge=1)
    blocks: int = Field(1, ge=0)
    kind: Literal["residual", "plain", "inverted"] = "residual"
    down: Literal["stride", "max", "mean", "none"] = "stride"
    kernel: int = Field(3, ge=1)

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd")
        return self


class ConvCard(BaseModel):
    """Shape, exits, classes and preprocessing of one `SplitConv`.

    id              first 16 hex digits of the hash of all tensors; empty before the weights are saved
    image_size      (height, width) in pixels; mean and std are per channel, for pixels scaled to [0, 1]
    stem_width      channels of the first convolution, of side stem_kernel and stride stem_stride
    exits           stages executed before each exit, rising; the last is all of them
    exit_state_dim  length of the exits' state u
    pool            what an exit sees: the mean over the map, its maximum, or both
    head_id, cut    of a tail over a shared head: it starts from the tokens of that model after `cut` blocks. Then
                    `channels` is their dim, `image_size` the (rows, columns) of patches, mean 0, std 1
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    id: str = ""
    image_size: tuple[int, int]
    channels: int = Field(ge=1)
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stem_width: int = Field(ge=1)
    stem_kernel: int = Field(3, ge=1)
    stem_stride: int = Field(1, ge=1)
    stages: tuple[ConvStage, ...]
    exits: tuple[int, ...]
    exit_state_dim: int = Field(ge=1)
    activation: Literal["relu", "gelu", "silu", "hardswish"] = "relu"
    pool: Literal["mean", "max", "both"] = "mean"
    head_id: str = ""
    cut: int = Field(0, ge=0)
    training: dict[str, object] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.exits or list(self.exits) != sorted(set(self.exits)) or self.exits[0] < 1:
            raise ValueError(f"exits {self.exits} must rise from at least 1")
        if self.exits[-1] != len(self.stages):
            raise ValueError(f"the last of exits {self.exits} must be the {len(self.stages)} stages")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("mean and std need one value a channel")
        if self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel {self.stem_kernel} must be odd")
        halvings = self.stem_stride * 2 ** sum(stage.down != "none" for stage in self.stages)
        if any(side % halvings for side in self.image_size):
            raise ValueError(f"image_size {self.image_size} is not a multiple of the total stride {halvings}")
        if bool(self.head_id) != bool(self.cut):
            raise ValueError("head_id and cut go together: both or neither")
        return self

    @property
    def class_count(self) -> int:
        return len(self.classes)

    def pooled(self, stages: int) -> int:
        """Length of what an exit after `stages` stages sees."""
        return self.stages[stages - 1].width * (2 if self.pool == "both" else 1)
