"""Files of learners: a `SplitConv`'s weights with its card in the metadata, or any SplitViT's model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..errors import DataError, UsageError, did_you_mean
from .card import ModelCard, card_problem, has_card, read_card, read_metadata
from .conv_card import ConvCard
from .identity import model_id
from .pool_profile import LEARNERS
from .store import (
    built_in_models,
    fill,
    float16_weights,
    load_network,
    read_tensors,
    resolve,
    save_network,
    write_tensors,
)

if TYPE_CHECKING:
    from .conv import SplitConv
    from .vit import SplitViT

__all__ = ["learner_names", "load_learner_network", "read_learner_card", "resolve_learner", "save_learner"]

_CARD = "conv_card"


def learner_names() -> list[str]:
    """Names of the learners that come with the package: those of the pool, then every built-in model."""
    return sorted(path.stem for path in LEARNERS.glob("*.safetensors")) + built_in_models()


def resolve_learner(name_or_path: str | Path) -> Path:
    """The file of a learner by name or path. UsageError for an unknown name, DataError for no file."""
    name = str(name_or_path)
    path = LEARNERS / f"{name}.safetensors"
    if len(Path(name).parts) == 1 and path.is_file():
        return path
    if Path(name).suffix != ".safetensors" and len(Path(name).parts) == 1 and name not in built_in_models():
        raise UsageError(f"unknown learner '{name}'; {did_you_mean(name, learner_names())}")
    return resolve(name_or_path)


def read_learner_card(path: Path | str) -> ConvCard | ModelCard:
    """The card of a learner's file, without reading the weights. DataError if there is none."""
    text = read_metadata(path).get(_CARD)
    if text is None:
        return read_card(path)
    try:
        return ConvCard.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: the learner's card is broken: {card_problem(error)}") from error


def save_learner(
    path: Path, network: SplitConv | SplitViT, card: ConvCard | ModelCard
) -> ConvCard | ModelCard:
    """Write weights (float16) and card, whole or not at all; returns the card with its id.

    A ViT's file is a model file like any other, but without a codec.
    """
    from .vit import SplitViT

    if isinstance(network, SplitViT) and isinstance(card, ModelCard):
        return save_network(path, network, card, {})
    tensors = float16_weights(network)
    card = card.model_copy(update={"id": model_id(tensors)})
    write_tensors(path, tensors, {_CARD: card.model_dump_json()})
    return card


def load_learner_network(path: Path) -> tuple[SplitConv | SplitViT, ConvCard | ModelCard]:
    """A learner's network to run, not to train, in float32, and its card. DataError if the file is broken."""
    from .conv import SplitConv, fold_norms

    if has_card(path) or _CARD not in read_metadata(path):
        return load_network(path)
    card = read_learner_card(path)
    assert isinstance(card, ConvCard)
    arrays = read_tensors(path)
    if model_id(arrays) != card.id:
        raise DataError(f"{path}: the weights do not match the card's id {card.id}")
    network = SplitConv(card)
    fill(network, arrays, path)
    return fold_norms(network).requires_grad_(False), card
