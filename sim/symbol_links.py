"""Whether the policies of a scenario can send symbols: with a code at the cut, over a medium that carries them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..channel.config import MahimahiConfig
from ..codec.symbols import SymbolCodec, symbol_count
from ..errors import ConfigError
from ..models.card import ModelCard
from ..policies.decision import NEVER, Decision
from .scenario import Scenario

__all__ = ["check_symbols"]


def check_symbols(
    scenario: Scenario, card: ModelCard, decisions: Mapping[str, Decision], arrays: Mapping[str, np.ndarray]
) -> None:
    """Raise ConfigError, naming the policy, unless each of `decisions` (by policy) can be sent.

    arrays  of the model, its codes among them
    """
    codec = SymbolCodec(arrays)
    for policy, decision in decisions.items():
        if not decision.symbols:
            continue
        if isinstance(scenario.channel.uplink, MahimahiConfig):
            raise ConfigError(f"policy '{policy}': symbols: a Mahimahi uplink carries bytes only")
        for cut in _cuts(card, decision):
            if cut not in codec.cuts:
                raise ConfigError(
                    f"policy '{policy}': symbols: {scenario.model} has no joint code at cut {cut}; train one with "
                    f"`splitpoint train-jscc {scenario.model} --cut {cut}`"
                )
            most = codec.layers(cut).symbols
            if symbol_count(card.dim, decision.symbols) > most:
                raise ConfigError(
                    f"policy '{policy}': symbols: the code at cut {cut} has at most {most / card.dim:g}, "
                    f"not {decision.symbols:g}"
                )


def _cuts(card: ModelCard, decision: Decision) -> Iterable[int]:
    """Where a request under `decision` may be sent from as symbols."""
    if 0 < decision.split < card.depth:
        yield decision.split
    if decision.offload_slope > -NEVER:
        yield from (after for after in card.exits[1:] if after < decision.split)
