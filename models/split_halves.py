"""The two halves of a network that is trained apart: whose weights are whose, how they are kept and joined.

The device has the embedding and the blocks before the cut, the server the blocks behind it and the exits. What is
trained is the last exit on its own, as a plain ViT is; earlier exits stay as they were, and so do the codec's
arrays, which a fine-tuning on the joined network brings back in line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import DataError, UsageError
from ..whole_file import whole_file
from .card import ModelCard
from .identity import CODEC
from .store import check_other_file, codec_arrays, load_network, resolve, save_network
from .vit import SplitViT

__all__ = [
    "Side",
    "half_parameters",
    "half_state",
    "join_halves",
    "read_tensors",
    "save_half",
    "save_tensors",
    "tail_logits",
]

Side = Literal["head", "tail"]


def _half_of(name: str, cut: int) -> Side:
    """Whose the parameter or buffer `name` of a SplitViT is."""
    if name.startswith("blocks."):
        return "head" if int(name.split(".")[1]) < cut else "tail"
    return "tail" if name.startswith(("exits.", "phi.")) else "head"


def half_parameters(network: SplitViT, cut: int, side: Side) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters of one half."""
    return ((name, p) for name, p in network.named_parameters() if _half_of(name, cut) == side)


def half_state(network: SplitViT, cut: int, side: Side) -> dict[str, Tensor]:
    """Parameters and buffers of one half."""
    return {name: value for name, value in network.state_dict().items() if _half_of(name, cut) == side}


def tail_logits(network: SplitViT, x: Tensor, cut: int) -> Tensor:
    """Logits (B, C) of the last exit, by itself, on tokens (B, n', d) at the cut."""
    x, _ = network.run(x, cut, network.card.depth)
    logits, _ = network.exit(x, len(network.card.exits) - 1)
    return logits


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file, whole or not at all. DataError where it cannot be written."""
    from safetensors.torch import save_file

    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with whole_file(path, "tensors") as partial:
        save_file(whole, partial, dict(metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. DataError where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def save_half(path: Path, network: SplitViT, card: ModelCard, cut: int, side: Side) -> None:
    """One half's weights, float32, with what `join_halves` must know: the network it came from, cut and side."""
    metadata = {"half": side, "cut": str(cut), "model_id": card.id}
    save_tensors(path, half_state(network, cut, side), metadata)


def join_halves(model: str | Path, head: Path, tail: Path, out: Path) -> ModelCard:
    """Write the network `model` with the trained halves in place of its own; returns the new card.

    Raises UsageError where a file is not that half of that network, and where `out` is the model itself.
    """
    check_other_file(out, model)
    network, card = load_network(resolve(model))
    state, trained, cuts = network.state_dict(), False, set()
    for path, side in ((head, "head"), (tail, "tail")):
        tensors, metadata = read_tensors(path)
        if metadata.get("half") != side or metadata.get("model_id") != card.id:
            raise UsageError(f"{path} is not a trained {side} of {card.name} ({card.id})")
        cut = int(metadata["cut"])
        cuts.add(cut)
        wanted = {name for name in state if _half_of(name, cut) == side}
        if wanted != tensors.keys() or any(state[name].shape != tensors[name].shape for name in wanted):
            raise DataError(f"{path}: the tensors do not fit {card.name} at cut {cut}")
        trained |= any(not torch.equal(state[name], value) for name, value in tensors.items())
        state |= tensors
    if len(cuts) > 1:
        raise UsageError(f"{head} and {tail} were cut at different blocks: {min(cuts)} and {max(cuts)}")
    with torch.no_grad():
        network.load_state_dict(state)
    codec = {name: array for name, array in codec_arrays(resolve(model)).items() if name.startswith(CODEC)}
    if trained:  # what was right of the network as it was
        told = {name: value for name, value in card.training.items() if name != "evaluation_accuracy"}
        card = card.model_copy(update={"training": told})
    return save_network(out, network, card, codec)
