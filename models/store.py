"""Model files: safetensors with float16 weights, the codec's arrays, and the model card as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..codec.entropy import is_table, tables_crc
from ..errors import DataError, UsageError, did_you_mean
from ..whole_file import whole_file
from .card import ModelCard, has_card, read_card, read_header, read_metadata
from .identity import CODEC, model_id, network_id
from .joint_file import JOINT, joint_path, read_joint, save_joint

if TYPE_CHECKING:
    from torch import nn

    from .vit import SplitViT

__all__ = [
    "built_in_models",
    "check_other_file",
    "codec_arrays",
    "fill",
    "float16_weights",
    "load_network",
    "read_tensors",
    "resolve",
    "save_codes",
    "save_network",
    "save_tables",
    "write_tensors",
]

_WEIGHTS = Path(__file__).parent / "weights"
_TABLES_CRC = "tables_crc"


def built_in_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in _WEIGHTS.glob("*.safetensors") if "." not in path.stem)


def resolve(name_or_path: str | Path) -> Path:
    """The file of a built-in model or of a path. UsageError for an unknown name, DataError for no file."""
    path = Path(name_or_path)
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        if path.is_dir():
            raise DataError(f"{path} is a folder: name the safetensors file in it")
        if not path.is_file():
            raise DataError(f"there is no model file {path}")
        return path
    if str(name_or_path) in built_in_models():
        return _WEIGHTS / f"{name_or_path}.safetensors"
    raise UsageError(f"unknown model '{name_or_path}'; {did_you_mean(str(name_or_path), built_in_models())}")


def check_other_file(out: Path, model: str | Path) -> None:
    """UsageError where `out` is the file of `model` itself: what is made of a model does not take its place."""
    if out.resolve() == resolve(model).resolve():
        raise UsageError(f"cannot write {out}: it must be another file than {model}")


def read_tensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """All arrays of a safetensors file, as they are stored; all as float32 where some are bfloat16 or smaller.

    DataError if it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        # numpy knows these by another library only; files that splitpoint writes, which boards read, have none.
        kinds = {str(about["dtype"]) for about in read_header(path).values() if "dtype" in about}
        if any(kind.startswith(("BF", "F8")) for kind in kinds):
            from safetensors import torch

            return {name: value.float().numpy() for name, value in torch.load_file(path).items()}
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise DataError(f"cannot read the model file {path}: {error}") from error


def codec_arrays(path: Path | str) -> dict[str, NDArray[np.generic]]:
    """The codec's arrays (`codec.*`) of a model file, and the joint codes (`jscc.*`) in it or beside it. No torch.

    Floats are widened to float32. DataError where code tables do not have the CRC that the file names.
    """
    tensors = read_tensors(Path(path))
    arrays = {k: v for k, v in tensors.items() if k.startswith((CODEC, JOINT))}
    beside = joint_path(Path(path))
    if beside.is_file():
        arrays |= read_joint(beside, network_id(tensors))
    named = read_metadata(path).get(_TABLES_CRC)
    if named is not None and named != _crc_text(arrays):
        raise DataError(f"{path}: the code tables do not match their CRC {named}")
    return {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in arrays.items()}


def save_network(
    path: Path | str, network: SplitViT, card: ModelCard, codec: Mapping[str, NDArray[np.generic]]
) -> ModelCard:
    """Write weights (float16), `codec` arrays (floats as float16) and card; returns the card with its id.

    The file is written beside its place and renamed, so that a reader never sees half of it.
    """
    tensors = float16_weights(network)
    for name, array in codec.items():
        if not name.startswith(CODEC):
            raise UsageError(f"codec array '{name}' must be named {CODEC}*")
        tensors[name] = array.astype(np.float16) if np.issubdtype(array.dtype, np.floating) else array
    card = card.model_copy(update={"id": model_id(tensors)})
    write_tensors(Path(path), tensors, {"card": card.model_dump_json()})
    return card


def float16_weights(network: nn.Module) -> dict[str, NDArray[np.generic]]:
    """What a model file keeps of a network: float16, without torch's own counters."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            # The file format keeps bytes as they lie, and a convolution's may lie channels last.
            tensors[name] = np.ascontiguousarray(value.detach().cpu().float().numpy().astype(np.float16))
    return tensors


def fill(network: nn.Module, arrays: Mapping[str, NDArray[np.generic]], path: Path) -> None:
    """Put a file's arrays into the network that its card describes.

    DataError, naming the first, if one misfits or holds what is no finite number.
    """
    import torch

    weights = {name: torch.from_numpy(value.astype(np.float32)) for name, value in arrays.items()}
    wanted = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    for name in sorted(wanted.keys() | weights.keys()):
        if name not in weights or name not in wanted or weights[name].shape != wanted[name].shape:
            raise DataError(f"{path}: tensor '{name}' does not fit the card")
        if not weights[name].isfinite().all():
            raise DataError(f"{path}: tensor '{name}' holds NaN or infinity")
    network.load_state_dict(weights, strict=False)


def save_tables(
    path: Path | str, tables: Mapping[str, NDArray[np.uint16]], out: Path | str | None = None
) -> Path:
    """Put code tables (`codec.{cut}.tables`) into a model file, in place of any that it has; returns the path.

    out  another file; by default the model's own. Weights, card and the model's id stay as they are.
    """
    if wrong := [name for name in tables if not is_table(name)]:
        raise UsageError(f"'{wrong[0]}' is no code table: they are named {CODEC}CUT.tables")
    kept = {name: value for name, value in read_tensors(Path(path)).items() if not is_table(name)}
    out = Path(out or path)
    write_tensors(out, {**kept, **tables}, read_metadata(path))
    return out


def save_codes(
    path: Path | str, arrays: Mapping[str, NDArray[np.generic]], training: Mapping[str, object]
) -> Path:
    """Write joint codes (`jscc.{cut}.*`) beside a model file, whose id stays as it is; returns their path."""
    beside = joint_path(Path(path))
    save_joint(beside, network_id(read_tensors(Path(path))), arrays, training)
    return beside


def write_tensors(
    path: Path, tensors: Mapping[str, NDArray[np.generic]], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, whole or not at all. DataError if it cannot be written."""
    from safetensors.numpy import save_file

    known = {name: text for name, text in metadata.items() if name != _TABLES_CRC}
    if any(map(is_table, tensors)):
        known[_TABLES_CRC] = _crc_text(tensors)
    with whole_file(path, "model file") as partial:
        save_file(dict(tensors), partial, metadata=known)


def _crc_text(tensors: Mapping[str, NDArray[np.generic]]) -> str:
    return f"{tables_crc(tensors):08x}"


def load_network(name_or_path: str | Path, *, without_classifier: bool = False) -> tuple[SplitViT, ModelCard]:
    """A model by built-in name or path, in evaluation mode and float32, and its card.

    A safetensors file without a card is read as anybody's ViT (`deit.load_vit`); without_classifier lets one pass
    that has none, for a training that gives it exits anyway. DataError if it is broken.
    """
    from .vit import SplitViT

    path = resolve(name_or_path)
    if not has_card(path):
        from .deit import load_vit

        return load_vit(path, without_classifier=without_classifier)
    card = read_card(path)
    arrays = read_tensors(path)
    if model_id(arrays) != card.id:
        raise DataError(f"{path}: the weights do not match the card's id {card.id}")
    # Looked at before a network of these sizes is made: a wrong card may ask for any number of bytes.
    last = f"blocks.{card.depth - 1}.norm1.weight"
    if last not in arrays or arrays[last].shape != (card.dim,):
        raise DataError(f"{path}: tensor '{last}' does not fit the card")
    network = SplitViT(card)
    fill(network, {k: v for k, v in arrays.items() if not k.startswith(CODEC)}, path)
    return network.eval(), card
