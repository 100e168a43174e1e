"""What stands beside somebody's ViT: config.json and preprocessor_config.json of timm and Hugging Face."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from ..errors import DataError

__all__ = ["VitConfig", "read_vit_config"]


class _Pretrained(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    label_names: tuple[str, ...] | None = None


class VitConfig(BaseModel):
    """The fields that the weights do not tell, by the names they have in the files; all others are passed over."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    num_attention_heads: PositiveInt | None = None
    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    id2label: dict[int, str] | None = None
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    hidden_act: str | None = None
    pretrained_cfg: _Pretrained | None = None

    @property
    def classes(self) -> tuple[str, ...] | None:
        if self.id2label:
            return tuple(self.id2label[number] for number in sorted(self.id2label))
        return self.pretrained_cfg.label_names if self.pretrained_cfg else None

    @property
    def mean(self) -> tuple[float, ...] | None:
        return self.image_mean or (self.pretrained_cfg.mean if self.pretrained_cfg else None)

    @property
    def std(self) -> tuple[float, ...] | None:
        return self.image_std or (self.pretrained_cfg.std if self.pretrained_cfg else None)

    @property
    def height_width(self) -> tuple[int, int] | None:
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size


def read_vit_config(folder: Path) -> VitConfig:
    """config.json and preprocessor_config.json of a folder as one, the second ruling; empty where there are none.

    DataError, naming file and field, for what does not fit, and for an activation that `SplitViT` does not have.
    """
    found = VitConfig()
    for name in ("config.json", "preprocessor_config.json"):
        file = folder / name
        try:
            values = VitConfig.model_validate(json.loads(file.read_text(encoding="utf-8")))
        except OSError:
            continue
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}: " for part in first["loc"][:1])
            raise DataError(f"{file}: {where}{first['msg']}") from error
        except ValueError as error:
            raise DataError(f"{file} is not JSON") from error
        found = found.model_copy(update=values.model_dump(exclude_none=True, exclude={"pretrained_cfg"}))
        found = found.model_copy(update={"pretrained_cfg": values.pretrained_cfg or found.pretrained_cfg})
    if found.hidden_act not in (None, "gelu"):
        raise DataError(f"{folder / 'config.json'}: hidden_act '{found.hidden_act}'; only 'gelu' is run")
    return found
