"""What stands beside somebody's ViT: config.json and preprocessor_config.json of timm and Hugging Face."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ..errors import DataError

__all__ = ["VitConfig", "read_vit_config"]

logger = logging.getLogger(__name__)


def _from_zero(names: dict[int, str]) -> dict[int, str]:
    if sorted(names) != list(range(len(names))):
        raise ValueError("the classes must be numbered 0, 1, ...")
    return names


_ById = Annotated[dict[int, str], AfterValidator(_from_zero)]
_Size = PositiveInt | tuple[PositiveInt, PositiveInt]


class _Part(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)


class _Arguments(_Part):
    """timm's `model_args`: what a model was made with, where that is not its architecture's own."""

    num_heads: PositiveInt | None = None
    img_size: _Size | None = None
    act_layer: str | None = None
    global_pool: str | None = None


class _Pretrained(_Part):
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    label_names: tuple[str, ...] | _ById | None = Field(
        None, validation_alias=AliasChoices("label_names", "labels")
    )


class VitConfig(_Part):
    """The fields that the weights do not tell, by the names they have in the files; all others are passed over."""

    num_attention_heads: PositiveInt | None = None
    image_size: _Size | None = None
    id2label: _ById | None = None
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    do_normalize: bool | None = None
    do_rescale: bool | None = None
    rescale_factor: float | None = None
    hidden_act: str | None = None
    layer_norm_eps: float | None = None
    global_pool: str | None = None
    label_names: tuple[str, ...] | _ById | None = None
    model_args: _Arguments = _Arguments()
    pretrained_cfg: _Pretrained = _Pretrained()

    @model_validator(mode="before")
    @classmethod
    def _one_level(cls, values: Any) -> Any:
        # Older versions of timm wrote the fields of pretrained_cfg beside the others.
        if isinstance(values, dict) and "architecture" in values and "pretrained_cfg" not in values:
            return {**values, "pretrained_cfg": values}
        return values

    @property
    def heads(self) -> int | None:
        return self.num_attention_heads or self.model_args.num_heads

    @property
    def classes(self) -> tuple[str, ...] | None:
        names = self.id2label or self.label_names or self.pretrained_cfg.label_names
        return tuple(names[number] for number in sorted(names)) if isinstance(names, dict) else names

    @property
    def mean(self) -> tuple[float, ...] | None:
        if self.do_normalize is False:
            return (0.0,) * len(self.image_mean or (0, 0, 0))
        return self.image_mean or self.pretrained_cfg.mean

    @property
    def std(self) -> tuple[float, ...] | None:
        if self.do_normalize is False:
            return (1.0,) * len(self.image_mean or (0, 0, 0))
        return self.image_std or self.pretrained_cfg.std

    @property
    def height_width(self) -> tuple[int, int] | None:
        size = self.image_size or self.model_args.img_size
        return (size, size) if isinstance(size, int) else size

    @property
    def usual_height_width(self) -> tuple[int, int] | None:
        """Of the images that timm's architecture takes by itself: one that was made otherwise still says so."""
        size = self.pretrained_cfg.input_size
        return size and size[1:]


def _check_run(config: VitConfig, file: Path) -> None:
    """DataError for what leaves the tensors as they are and yet is not what `SplitViT` computes."""
    for field, value, only in (
        ("hidden_act", config.hidden_act, "gelu"),
        ("act_layer", config.model_args.act_layer, "gelu"),
        ("global_pool", config.model_args.global_pool or config.global_pool, "token"),
    ):
        if value not in (None, only):
            raise DataError(f"{file}: {field} '{value}'; only '{only}' is run")
    if config.layer_norm_eps is not None and config.layer_norm_eps > 1e-5:
        raise DataError(f"{file}: layer_norm_eps {config.layer_norm_eps:g}; 1e-6 is run")
    if config.do_rescale is False or abs((config.rescale_factor or 1 / 255) * 255 - 1) > 1e-3:
        raise DataError(f"{file}: do_rescale and rescale_factor; pixels are scaled by 1/255")
    if (highest := max(config.mean or (0,))) > 1:
        raise DataError(f"{file}: a mean of {highest:g}; pixels are scaled by 1/255")


def read_vit_config(folder: Path) -> VitConfig:
    """config.json and preprocessor_config.json of a folder as one, the second ruling; empty where there are none.

    DataError, naming file and field, for what does not fit, and for what `SplitViT` does not do.
    """
    both: dict[str, Any] = {}
    for name in ("config.json", "preprocessor_config.json"):
        file = folder / name
        try:
            values = json.loads(file.read_text(encoding="utf-8-sig"))
            if isinstance(values, dict):
                values = {field: value for field, value in values.items() if value is not None}
            _check_run(VitConfig.model_validate(values), file)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}: " for part in first["loc"][:1])
            raise DataError(f"{file}: {where}{first['msg'].removeprefix('Value error, ')}") from error
        except ValueError as error:
            raise DataError(f"{file} is not JSON") from error
        both |= values
    config = VitConfig.model_validate(both)
    if both and config.mean is None:
        _warn(
            f"{folder}: neither config.json nor preprocessor_config.json has image_mean: pixels are taken to have "
            "ImageNet's mean and deviation"
        )
    return config


@lru_cache
def _warn(text: str) -> None:
    """Once a process: a command reads a model several times."""
    logger.warning(text)
