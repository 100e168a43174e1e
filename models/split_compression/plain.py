"""No compression: every value of every sample, each way."""

from __future__ import annotations

from torch import Tensor

from .base import Decoder, Encoder, Sent

__all__ = ["PlainDecoder", "PlainEncoder"]


class PlainEncoder(Encoder):
    def encode(self, x: Tensor, attention: Tensor, classes: Tensor, step: int) -> Sent:
        return Sent(x, classes)


class PlainDecoder(Decoder):
    def wire_shape(self, outputs: int) -> tuple[int, int, int]:
        return outputs, self.geometry.tokens, self.geometry.dim

    def decode(self, values: Tensor, indices: bytes, outputs: int) -> Tensor:
        return values
