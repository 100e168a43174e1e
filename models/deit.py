"""Anybody's plain ViT: timm and DeiT checkpoints, and Hugging Face's, mapped to `SplitViT`.

Only names change; timm's are `SplitViT`'s own but for the classifier, which is the one, linear exit.
Distilled models, layer scale, registers and the like are refused by the tensor that gives them away, other
activations and poolings by config.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from ..errors import DataError
from .card import ModelCard, card_problem
from .identity import model_id
from .vit import SplitViT
from .vit_config import read_vit_config

__all__ = ["from_state_dict", "load_vit"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_HUGGING_FACE = [
    (r"(?:vit\.|deit\.)?embeddings\.cls_token", "cls_token"),
    (r"(?:vit\.|deit\.)?embeddings\.position_embeddings", "pos_embed"),
    (r"(?:vit\.|deit\.)?embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"(?:vit\.|deit\.)?layernorm\.(\w+)", r"norm.\1"),
    (r"classifier\.(\w+)", r"head.\1"),
]
_POOLER = r"(?:vit\.|deit\.)?pooler\..*"  # behind the tokens: no classifier reads it
_LAYER = r"(?:vit\.|deit\.)?(?:encoder\.layer|layers|encoder\.layers)\.(\d+)\."
_HUGGING_FACE_LAYER = [
    (r"layernorm_before\.(\w+)", r"norm1.\1"),
    (r"layernorm_after\.(\w+)", r"norm2.\1"),
    (r"attention\.output\.dense\.(\w+)|attention\.o_proj\.(\w+)", r"attn.proj.\1\2"),
    (r"intermediate\.dense\.(\w+)|mlp\.fc1\.(\w+)", r"mlp.fc1.\1\2"),
    (r"output\.dense\.(\w+)|mlp\.fc2\.(\w+)", r"mlp.fc2.\1\2"),
    (r"attention\.(?:attention\.)?(query|key|value)\.(\w+)", r"attn.\1.\2"),
    (r"attention\.([qkv])_proj\.(\w+)", r"attn.\1.\2"),
]
_SHORT = {"q": "query", "k": "key", "v": "value"}
_PLAIN = re.compile(
    r"cls_token|pos_embed|(patch_embed\.proj|norm|head"
    r"|blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2))\.(weight|bias)"
)
_WIDEST = 1024
"""Up to ViT-large all have heads of 64 dims; ViT-huge's have 80, those of the giants 88 and 104."""


def _timm_name(name: str) -> str:
    for pattern, target in _HUGGING_FACE:
        if match := re.fullmatch(pattern, name):
            return match.expand(target)
    if match := re.match(_LAYER, name):
        for pattern, target in _HUGGING_FACE_LAYER:
            if rest := re.fullmatch(pattern, name[match.end() :]):
                return f"blocks.{match[1]}.{rest.expand(target)}"
    return name


def _to_timm(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """timm's names and float32; separate query, key and value become one qkv."""
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point():
            raise DataError(f"{source} is no plain ViT: tensor '{name}' is of {value.dtype}, not of floats")
        if re.fullmatch(_POOLER, name):
            continue
        named[_timm_name(name)] = value = value.float()
        if not value.isfinite().all():
            raise DataError(f"{source}: tensor '{name}' holds NaN or infinity")
    joined: dict[str, Tensor] = {}
    for name, value in named.items():
        match = re.fullmatch(r"(blocks\.\d+\.attn\.)(query|key|value|q|k|v)\.(weight|bias)", name)
        if not match:
            joined[name] = value
            continue
        target = f"{match[1]}qkv.{match[3]}"
        if target not in joined:
            long = {
                _SHORT.get(n.split(".")[3], n.split(".")[3]): v
                for n, v in named.items()
                if n.startswith(match[1])
                and n.endswith(match[3])
                and n.count(".") == 4
                and n.split(".")[3] in {*_SHORT, *_SHORT.values()}
            }
            if long.keys() != set(_SHORT.values()):
                raise DataError(f"{source} lacks part of '{target}'")
            joined[target] = torch.cat([long[part] for part in _SHORT.values()])
    return joined


def _shape(state: Mapping[str, Tensor], name: str, dims: int, source: str) -> torch.Size:
    if name not in state:
        raise DataError(f"{source} is not a plain ViT: there is no tensor '{name}'")
    if state[name].ndim != dims:
        raise DataError(
            f"{source}: tensor '{name}' has shape {tuple(state[name].shape)}, not {dims} dimensions"
        )
    return state[name].shape


def _image_size(
    positions: int, patch: int, given: tuple[int, int] | None, usual: tuple[int, int] | None, source: str
) -> tuple[int, int]:
    """(height, width) of an image of `positions` - 1 patches: as given, else as usual, else square."""
    side = round((positions - 1) ** 0.5) * patch
    size = given or (side, side)
    for height, width in (size,) if given or not usual else (usual, size):
        if (height // patch) * (width // patch) == positions - 1:
            return height, width
    raise DataError(
        f"{source}: {positions - 1} positions do not fit {size[0]}x{size[1]} pixels in patches of {patch}; "
        "put image_size, [height, width], into a config.json beside the file "
        "(a model whose CLS token has no position is not read)"
    )


def from_state_dict(
    state: Mapping[str, Tensor],
    *,
    name: str = "vit",
    heads: int | None = None,
    classes: tuple[str, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    image_size: tuple[int, int] | None = None,
    usual_size: tuple[int, int] | None = None,
    without_classifier: bool = False,
    source: str = "the checkpoint",
) -> tuple[SplitViT, ModelCard]:
    """A timm, DeiT or Hugging Face ViT's state dict as a SplitViT in evaluation mode, and its card.

    heads       default dim / 64, as in DeiT and ViT up to large: the weights do not tell; needed for other dims
    image_size  (height, width); default square, from the positional embedding
    usual_size  (height, width) that the architecture takes by itself: image_size where the positions fit it
    mean, std   of pixels in [0, 1]; default ImageNet's
    without_classifier  where it has none, give it one of a single class and zeros

    Raises DataError, naming the tensor, for anything but a plain ViT with a CLS token and a classifier.
    """
    weights = _to_timm(state, source)
    if any("dist" in key for key in weights):
        raise DataError(
            f"{source} is a distilled model (it has a distillation token), which SplitViT does not run"
        )
    # Before anything is measured: with another's tensors sizes do not fit either, and that would tell less.
    for key in sorted(weights):
        if not _PLAIN.fullmatch(key):
            raise DataError(f"{source} is not a plain ViT: it has a tensor '{key}'")
    dim, channels, patch, _ = _shape(weights, "patch_embed.proj.weight", 4, source)
    _shape(weights, "cls_token", 3, source)
    _, count, _ = _shape(weights, "pos_embed", 3, source)
    if "head.weight" not in weights:
        if not without_classifier:
            raise DataError(
                f"{source} has no classifier ('head.weight'); `splitpoint train --model` gives it one"
            )
        weights |= {"head.weight": torch.zeros(1, dim), "head.bias": torch.zeros(1)}
        classes = None
    class_count, _ = _shape(weights, "head.weight", 2, source)
    if class_count < 1:
        raise DataError(f"{source}: its classifier has no classes")
    hidden, _ = _shape(weights, "blocks.0.mlp.fc1.weight", 2, source)
    if heads is None and (dim % 64 or dim > _WIDEST):
        raise DataError(
            f"{source}: the weights do not tell the number of heads, which at dim {dim} need not be 64 wide; "
            "put num_attention_heads into a config.json beside the file"
        )
    # Not the highest number: of a name alone a network of a million blocks would be made.
    depth = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    if not any(key.endswith("attn.qkv.bias") for key in weights):
        weights |= {f"blocks.{block}.attn.qkv.bias": torch.zeros(3 * dim) for block in range(depth)}
    size = _image_size(count, patch, image_size, usual_size, source)
    if classes is not None and len(classes) != class_count:
        raise DataError(f"{source} has {class_count} classes, but {len(classes)} are named")
    try:
        card = ModelCard(
            name=name,
            id=model_id({key: value.numpy() for key, value in weights.items()}),
            image_size=size,
            channels=channels,
            classes=classes or tuple(str(i) for i in range(class_count)),
            mean=mean or (_IMAGENET[0] if channels == 3 else (0.5,) * channels),
            std=std or (_IMAGENET[1] if channels == 3 else (0.5,) * channels),
            patch=patch,
            dim=dim,
            depth=depth,
            heads=heads or dim // 64,
            mlp_ratio=hidden / dim,
            exits=(depth,),
            exit_kind="linear",
        )
    except ValidationError as error:
        raise DataError(f"{source} does not fit: {card_problem(error)}") from error
    network = SplitViT(card)
    renamed = {re.sub(r"^(norm|head)\.", r"exits.0.\1.", key): value for key, value in weights.items()}
    wanted = network.state_dict()
    for key in sorted(wanted):
        shown = key.removeprefix("exits.0.")
        if key not in renamed:
            raise DataError(f"{source} is not a plain ViT: there is no tensor '{shown}'")
        if renamed[key].shape != wanted[key].shape:
            raise DataError(
                f"{source}: tensor '{shown}' has shape {tuple(renamed[key].shape)}, not "
                f"{tuple(wanted[key].shape)}"
            )
    network.load_state_dict(renamed)
    return network.eval(), card


def load_vit(path: Path | str, *, without_classifier: bool = False) -> tuple[SplitViT, ModelCard]:
    """A timm, DeiT or Hugging Face safetensors file as a SplitViT in evaluation mode, and its card.

    config.json and preprocessor_config.json beside it give what they say (`vit_config`).
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    try:
        state = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"cannot read the model file {path}: {error}") from error
    found = read_vit_config(path.parent)
    return from_state_dict(
        state,
        name=path.stem,
        heads=found.heads,
        classes=found.classes,
        mean=found.mean,
        std=found.std,
        image_size=found.height_width,
        usual_size=found.usual_height_width,
        without_classifier=without_classifier,
        source=str(path),
    )
