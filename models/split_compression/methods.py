"""The methods by name."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import UsageError, did_you_mean
from ..adc import AdcDecoder, AdcEncoder
from ..card import ModelCard
from .base import Decoder, Encoder, Geometry
from .bottlenet import BottleNetDecoder, BottleNetEncoder
from .c3_sl import C3Decoder, C3Encoder
from .plain import PlainDecoder, PlainEncoder
from .top_k import RandomTopKEncoder, TopKDecoder, TopKEncoder

__all__ = ["METHODS", "build_decoder", "build_encoder"]


class _Pair(NamedTuple):
    encoder: type[Encoder]
    decoder: type[Decoder]


METHODS = {
    "adc": _Pair(AdcEncoder, AdcDecoder),
    "bottlenet++": _Pair(BottleNetEncoder, BottleNetDecoder),
    "c3-sl": _Pair(C3Encoder, C3Decoder),
    "none": _Pair(PlainEncoder, PlainDecoder),
    "random-top-k": _Pair(RandomTopKEncoder, TopKDecoder),
    "top-k": _Pair(TopKEncoder, TopKDecoder),
}


def _geometry_of(card: ModelCard) -> Geometry:
    """Shape of the activations of this network, at whatever cut."""
    rows, columns = (side // card.patch for side in card.image_size)
    return Geometry(card.patch_tokens + 1, card.dim, (rows, columns), card.class_count)


def _pair(method: str) -> _Pair:
    if method not in METHODS:
        raise UsageError(f"unknown method '{method}'; {did_you_mean(method, METHODS)}")
    return METHODS[method]


def build_encoder(method: str, card: ModelCard, rate: float, seed: int, rho_batch: float = 0.0) -> Encoder:
    """The device's half. `rho_batch` is ADC's share of clusters, 0 its default.

    UsageError for an unknown method, a rate that it cannot meet, or a share of clusters where nothing is merged.
    """
    return _pair(method).encoder(_geometry_of(card), rate, seed, **_merging(method, rho_batch))


def build_decoder(method: str, card: ModelCard, rate: float, seed: int, rho_batch: float = 0.0) -> Decoder:
    """The server's half. UsageError as `build_encoder`."""
    return _pair(method).decoder(_geometry_of(card), rate, seed, **_merging(method, rho_batch))


def _merging(method: str, rho_batch: float) -> dict[str, float]:
    if rho_batch and method != "adc":
        raise UsageError(f"rho_batch is ADC's, {method} merges nothing")
    return {"rho_batch": rho_batch} if rho_batch else {}
