"""What a server runs, loaded from model files: a network's tail, learners, the card of a quorum's devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..codec.tokens import TokenCodec
from ..errors import ConfigError, DataError, MissingExtra, UsageError
from ..models.card import ModelCard, read_card
from .config import ServerConfig
from .gate_work import GateRunner
from .work import Tail

__all__ = ["Engine", "Parts", "load_engine", "load_parts"]


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded network: its card, its codec with the limits of a request, and its tail."""

    card: ModelCard
    codec: TokenCodec
    tail: Tail

    @classmethod
    def of(cls, card: ModelCard, tail: Tail, arrays: Mapping[str, np.ndarray] | None = None) -> Engine:
        """With the codec's arrays of the model file, or identity maps where there are none."""
        return cls(card, _codec(card, arrays or {}), tail)


@dataclass(frozen=True, slots=True)
class Parts:
    """All that one server runs.

    engine   the network that Infer answers with; None where a quorum does, or nothing
    runners  the learners in this process, by what the configuration calls them
    codecs   of the heads whose tokens they take, by model id
    device   card and codec of the network that a quorum's devices run
    """

    engine: Engine | None = None
    runners: Mapping[str, GateRunner] = field(default_factory=dict)
    codecs: Mapping[str, TokenCodec] = field(default_factory=dict)
    device: tuple[ModelCard, TokenCodec] | None = None


def load_engine(model: str, threads: int = 1) -> Engine:
    """The network `model`, a built-in name or a path, on torch. Raises MissingExtra without torch."""
    try:
        from .tail import TorchTail
    except ImportError:
        raise MissingExtra("serving a network", "sim") from None
    from ..models.store import codec_arrays, load_network, resolve

    network, card = load_network(model)
    return Engine.of(card, TorchTail(network, card, threads=threads), codec_arrays(resolve(model)))


def load_parts(config: ServerConfig) -> Parts:
    """Everything that the configuration names. Raises what loading raises, and UsageError for learners that
    share a name or take the tokens of a network that is not here."""
    engine = load_engine(config.network, config.threads) if config.network else None
    names = list(config.learners)
    device = None
    if config.quorum is not None:
        device = _device(config.quorum.device_model)
        names += [place.model for place in config.quorum.learners if not (place.address or place.on_device)]
    runners = _runners(tuple(dict.fromkeys(names)), config.threads) if names else {}
    heads = {runner.card.head_id for runner in runners.values()} - {""}
    return Parts(engine, runners, {head: _head_codec(head, config) for head in heads}, device)


def _runners(names: Sequence[str], threads: int) -> dict[str, GateRunner]:
    try:
        from .learner import load_runner
    except ImportError:
        raise MissingExtra("serving a learner", "sim") from None
    runners: dict[str, GateRunner] = {name: load_runner(name, threads) for name in names}
    known = [runner.card.name for runner in runners.values()]
    for name in known:
        if known.count(name) > 1:
            raise UsageError(f"two learners are named '{name}'")
    return runners


def _device(model: str) -> tuple[ModelCard, TokenCodec]:
    """Card and codec, without the network. ConfigError for a model that has no card."""
    from ..models.store import codec_arrays, resolve

    try:
        path = resolve(model)
        card = read_card(path)
    except (UsageError, DataError) as error:
        raise ConfigError(f"the network that the quorum's devices run: {error}") from None
    return card, _codec(card, codec_arrays(path))


def _head_codec(head_id: str, config: ServerConfig) -> TokenCodec:
    from ..models.store import built_in_models, codec_arrays, resolve

    named = [config.network, config.quorum.device_model if config.quorum else ""]
    for model in (*filter(None, named), *built_in_models()):
        path = resolve(model)
        try:
            card = read_card(path)
        except DataError:
            continue
        if card.id == head_id:
            return _codec(card, codec_arrays(path))
    raise UsageError(
        f"a learner takes tokens of the model {head_id}, which is not here; name it with --model"
    )


def _codec(card: ModelCard, arrays: Mapping[str, np.ndarray]) -> TokenCodec:
    return TokenCodec(arrays, dim=card.dim, max_tokens=card.patch_tokens + 1)
