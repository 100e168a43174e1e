"""What one must know of a network without loading it: the model card, stored beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from ..codec.selection import kept_count
from ..errors import DataError
from ..protos import splitpoint_pb2 as pb

__all__ = ["ModelCard", "card_problem", "has_card", "read_card", "read_header", "read_metadata"]

_MAX_HEADER = 16 << 20


class ModelCard(BaseModel):
    """Shape, exits, classes and preprocessing of one network.

    id              first 16 hex digits of the hash of all tensors; empty before the weights are saved
    image_size      (height, width) in pixels; mean and std are per channel, for pixels scaled to [0, 1]
    stem            "patch": one convolution of the patch size; "conv": strided 3x3 convolutions
    stem_widths     channels after each stride of a conv stem; () for a doubling up to `dim`
    stem_blocks     residual pairs of 3x3 convolutions after each stride of a conv stem; () for none
    patch           total stride of the stem in pixels
    exits           blocks executed before each exit, rising; the last is `depth`
    exit_kind       "recursive": exits share a state u; "linear": norm and a linear classifier, no state
    exit_state_dim  length of u; 0 for linear exits
    gates           whether the network has a budget token and gates that drop patch tokens (models/gates.py)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    id: str = ""
    image_size: tuple[int, int]
    channels: int
    classes: tuple[str, ...]
    mean: tuple[FiniteFloat, ...]
    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    stem: Literal["patch", "conv"] = "patch"
    stem_widths: tuple[int, ...] = ()
    stem_blocks: tuple[int, ...] = ()
    patch: int
    dim: int
    depth: int
    heads: int
    mlp_ratio: Annotated[FiniteFloat, Field(gt=0)] = 4.0
    exits: tuple[int, ...]
    exit_kind: Literal["recursive", "linear"] = "recursive"
    exit_state_dim: NonNegativeInt = 0
    gates: bool = False
    training: dict[str, object] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if min(*self.image_size, self.channels, self.patch, self.dim, self.depth, self.heads) < 1:
            raise ValueError("sizes must be at least 1")
        if any(side % self.patch for side in self.image_size):
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch {self.patch}")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        if not self.exits or list(self.exits) != sorted(set(self.exits)) or self.exits[0] < 1:
            raise ValueError(f"exits {self.exits} must rise from at least 1")
        if self.exits[-1] != self.depth:
            raise ValueError(f"the last of exits {self.exits} must be depth {self.depth}")
        if (self.exit_kind == "linear") != (self.exit_state_dim == 0):
            raise ValueError("exit_state_dim is 0 for linear exits, and only for them")
        if self.gates and self.depth < 2:
            raise ValueError("gates stand between blocks: depth must be at least 2")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("mean and std need one value a channel")
        if self.stem == "conv" and self.patch not in (2, 4, 8, 16):
            raise ValueError(f"a conv stem strides by 2, 4, 8 or 16, not {self.patch}")
        strides = 0 if self.stem == "patch" else self.patch.bit_length() - 1
        for name, values, least in (
            ("stem_widths", self.stem_widths, 1),
            ("stem_blocks", self.stem_blocks, 0),
        ):
            if values and (len(values) != strides or min(values) < least):
                raise ValueError(
                    f"{name} {values} must be a number from {least} for each of {strides} strides"
                )
        return self

    @property
    def patch_tokens(self) -> int:
        """n, the number of patch tokens; the CLS token is not counted."""
        return (self.image_size[0] // self.patch) * (self.image_size[1] // self.patch)

    def kept(self, keep: float) -> int:
        """Patch tokens that are sent at this fraction of them."""
        return kept_count(self.patch_tokens, keep)

    @property
    def class_count(self) -> int:
        return len(self.classes)

    @property
    def hidden(self) -> int:
        """Width of the blocks' MLP."""
        # A ratio is a rounded quotient: 112 * (488 / 112) is a little less than 488.
        return int(self.dim * self.mlp_ratio + 1e-6)

    @property
    def stem_channels(self) -> tuple[int, ...]:
        """Output channels of the stem's strided convolutions."""
        if self.stem == "patch":
            return (self.dim,)
        if self.stem_widths:
            return self.stem_widths
        steps = self.patch.bit_length() - 1
        return tuple(max(8, self.dim >> (steps - 1 - i)) for i in range(steps))

    def exits_within(self, start: int, stop: int) -> list[int]:
        """Indices of the exits reached by executing blocks [start, stop): start < exits[i] <= stop."""
        return [i for i, after in enumerate(self.exits) if start < after <= stop]

    def stops(self, start: int, stop: int) -> list[int]:
        """Blocks executed at each exit reached by executing blocks [start, stop), and at `stop`."""
        return list(dict.fromkeys((*(self.exits[i] for i in self.exits_within(start, stop)), stop)))

    def to_message(self) -> pb.ModelCard:
        """The card as it travels in DescribeReply; preprocessing stays in the file."""
        return pb.ModelCard(
            id=self.id,
            name=self.name,
            depth=self.depth,
            dim=self.dim,
            patch_tokens=self.patch_tokens,
            exits=self.exits,
            classes=self.classes,
            image_height=self.image_size[0],
            image_width=self.image_size[1],
            channels=self.channels,
            exit_state_dim=self.exit_state_dim,
        )


def read_header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of each tensor, and its metadata. DataError if it is no such file."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= _MAX_HEADER:
                raise DataError(f"{path} is not a safetensors file")
            found = json.loads(file.read(size))
    except OSError as error:
        raise DataError(f"cannot read the model file {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not a safetensors file") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a safetensors file")
    return found


def read_metadata(path: Path | str) -> dict[str, str]:
    """A safetensors file's metadata, without reading a tensor. DataError if it is no such file."""
    found = read_header(Path(path)).get("__metadata__")
    return found if isinstance(found, dict) else {}


def has_card(path: Path | str) -> bool:
    """Whether a safetensors file is a splitpoint model; DataError if it is no safetensors file at all."""
    return "card" in read_metadata(Path(path))


def card_problem(error: ValidationError) -> str:
    """What is wrong with a card, in one line; a field that is not known may come from a newer version."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"this version does not know its field '{where}'; is it of a newer one?"
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def read_card(path: Path | str) -> ModelCard:
    """The card in a model file's metadata, without reading the weights. DataError if there is none."""
    path = Path(path)
    text = read_metadata(path).get("card")
    if text is None:
        raise DataError(
            f"{path} is not a splitpoint model: there is no model card in it; "
            "`splitpoint train --model` makes one of a plain ViT"
        )
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: the model card is broken: {card_problem(error)}") from error
