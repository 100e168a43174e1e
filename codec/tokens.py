"""Tokens at a cut to the digital payload and back.

    tokens (n+1, d) -- select --> (T, d) -- basis --> (T, dims) -- quantise --> codes, offset, scale
                                                        -- bit planes --> packed or entropy-coded bytes

T = k + 1, CLS and the kept patches, or k + 2 with a rest token (codec/selection.py).

The decoder trusts nothing: everything is checked against the model's limits, in Python integers, before
anything is allocated. What does not hold raises `PayloadError`, whose `field` names the field.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import UsageError
from ..protos import splitpoint_pb2 as pb
from .adc import Merged, group_count, groups_message
from .basis import Basis
from .decoding import Decoding, checked_tokens
from .entropy import CodeTables, available_coders, encode_planes, tables_crc
from .errors import PayloadError, check_within
from .nested import Quantised, quantise
from .planes import pack_planes, plane_bytes
from .selection import further_tokens, sent_tokens
from .symbols import SymbolCodec

__all__ = ["TokenCodec"]

_NAMING_BYTES = pb.Tokens(coder=pb.CODER_ANS, tables_crc=1).ByteSize()
"""What coder and tables_crc add to a message."""


class TokenCodec:
    """Encoder and decoder of one model's tokens.

    arrays      the model's `codec.*` and `jscc.*` arrays; others are ignored, none means identity maps and no tables
    dim         the network's dim d; needed only where it cannot be read from `arrays`
    max_tokens  most tokens a sample, CLS included, that `decode` accepts; None: no limit of its own
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], *, dim: int | None = None, max_tokens: int | None = None
    ) -> None:
        self._arrays = dict(arrays)
        means = [
            array for name, array in arrays.items() if name.startswith("codec.") and name.endswith(".mean")
        ]
        self.dim = dim if dim is not None else (int(means[0].size) if means else None)
        self.max_tokens = max_tokens
        self.tables_crc = tables_crc(arrays)
        """Names the entropy coder's tables of all cuts; 0 without any. They must be equal on both sides."""
        self.symbols = SymbolCodec(arrays, max_tokens=max_tokens)
        """The joint source-channel codes, where the model has any."""
        self._bases: dict[int, Basis] = {}
        self._rests: dict[int, bool] = {}
        self._tables: dict[int, CodeTables | None] = {}

    def basis(self, cut: int) -> Basis:
        """The bottleneck map of `cut`; the identity where the model has none."""
        basis = self._bases.get(cut)
        if basis is None:
            basis = Basis.from_arrays(self._arrays, cut)
            if basis is None:
                if self.dim is None:
                    raise UsageError("TokenCodec needs `dim` for a model without codec arrays")
                basis = Basis.identity(self.dim)
            self._bases[cut] = basis
        return basis

    def tables(self, cut: int) -> CodeTables | None:
        """The integer tables of the entropy coder at `cut`, or None where the model has none."""
        if cut not in self._tables:
            array = self._arrays.get(f"codec.{cut}.tables")
            self._tables[cut] = None if array is None else CodeTables(array)
        return self._tables[cut]

    def sends_rest(self, cut: int) -> bool:
        """Whether a rest token stands for the patches that are not sent from `cut`."""
        found = self._rests.get(cut)
        if found is None:
            found = self._rests[cut] = bool(np.any(self._arrays.get(f"codec.{cut}.rest", False)))
        return found

    def coders(self, cut: int) -> tuple[pb.Coder.ValueType, ...]:
        """Coders that this side can use at `cut`: bit packing, and ANS with the library and tables."""
        return available_coders() if self.tables(cut) is not None else (pb.CODER_PACKED,)

    def quantised(
        self, tokens: np.ndarray, scores: np.ndarray | None, cut: int, keep: float, dims: int
    ) -> tuple[Quantised, np.ndarray]:
        """Select, project and quantise: 8-bit codes of CLS, rest token and kept patches, and these' positions (k,).

        tokens  float32 (n+1, d), CLS first
        scores  float32 (n,), or None where keep is 1
        dims    leading bottleneck dims, 0 for all

        Keep the result where the server may ask for more: `message` and `planes` both start from it.
        """
        sent, kept, rest = sent_tokens(tokens, scores, keep, rest=self.sends_rest(cut))
        if self.dim is None:
            self.dim = int(tokens.shape[1])
        basis = self.basis(cut)
        if tokens.shape[1] != basis.dim:
            raise PayloadError("tokens", f"must have dim {basis.dim}, not {tokens.shape[1]}")
        return quantise(basis.project(sent, dims or basis.dim))._replace(rest=rest), kept

    def planes(
        self,
        quantised: Quantised,
        cut: int,
        first: int,
        stop: int,
        coder: pb.Coder.ValueType = pb.CODER_PACKED,
    ) -> list[bytes]:
        """Planes first..stop-1 as they go into a message; `coder` is one of `coders(cut)`."""
        tables = self.tables(cut)
        if coder == pb.CODER_ANS and tables is not None:
            return encode_planes(quantised, first, stop, tables)
        return pack_planes(quantised.codes, first, stop)

    def further_planes(
        self,
        quantised: Quantised,
        cut: int,
        bits: int,
        stop: int,
        coder: pb.Coder.ValueType = pb.CODER_PACKED,
    ) -> list[bytes]:
        """Planes bits..stop-1, to follow `message(quantised, cut, bits, coder)`: coded as those were."""
        if coder != pb.CODER_PACKED:
            coder = self.message(quantised, cut, bits, coder).coder
        return self.planes(quantised, cut, bits, stop, coder)

    def further(
        self,
        tokens: np.ndarray,
        scores: np.ndarray,
        cut: int,
        keep: float,
        refine_keep: float,
        dims: int,
        bits: int,
        coder: pb.Coder.ValueType = pb.CODER_PACKED,
    ) -> pb.Tokens:
        """The patches that `refine_keep` keeps beyond those of `keep`, without CLS, over ranges of their own."""
        basis = self.basis(cut)
        rows = tokens[1 + further_tokens(scores, keep, refine_keep)]
        return self.message(quantise(basis.project(rows, dims or basis.dim)), cut, bits, coder)

    def message(
        self, quantised: Quantised, cut: int, bits: int, coder: pb.Coder.ValueType = pb.CODER_PACKED
    ) -> pb.Tokens:
        """The payload with the leading `bits` planes, packed where `coder` is not to be had or saves nothing."""
        check_within("tokens.bits", bits, 1, 8)
        count, dims = quantised.codes.shape
        planes = self.planes(quantised, cut, 0, bits, coder)
        message = pb.Tokens(
            count=count,
            dims=dims,
            bits=bits,
            offset=_named(quantised.offset),
            scale=_named(quantised.scale),
            planes=planes,
            rest=quantised.rest,
        )
        saved = bits * plane_bytes(count * dims) - sum(map(len, planes))
        if saved > _NAMING_BYTES:
            message.coder, message.tables_crc = coder, self.tables_crc
        elif saved:
            message.planes[:] = pack_planes(quantised.codes, 0, bits)
        return message

    def encode_merged(
        self,
        merged: Merged,
        cut: int,
        dims: int = 0,
        bits: int = 8,
        coder: pb.Coder.ValueType = pb.CODER_PACKED,
    ) -> pb.Tokens:
        """The payload of a batch merged by ADC: `count` tokens of each group, one group after the other."""
        groups, count, dim = merged.tokens.shape
        self.dim = self.dim if self.dim is not None else dim
        basis = self.basis(cut)
        rows = basis.project(merged.tokens.reshape(groups * count, dim), dims or basis.dim)
        message = self.message(quantise(rows), cut, bits, coder)
        message.count = count
        message.groups.CopyFrom(groups_message(merged.assignment))
        return message

    def encode(
        self,
        tokens: np.ndarray,
        scores: np.ndarray | None,
        cut: int,
        keep: float = 1.0,
        dims: int = 0,
        bits: int = 8,
        coder: pb.Coder.ValueType = pb.CODER_PACKED,
    ) -> tuple[pb.Tokens, np.ndarray]:
        """The payload of one sample, and the ascending positions of the kept patches, int64 (k,).

        Arguments as in `quantised` and `message`. PayloadError for values not finite or out of range.
        """
        quantised, kept = self.quantised(tokens, scores, cut, keep, dims)
        return self.message(quantised, cut, bits, coder), kept

    def decode(self, message: pb.Tokens, cut: int) -> np.ndarray:
        """Tokens of a payload, float32 (count, d); of a merged batch (groups * count, d), group by group.

        Raises PayloadError, naming the field, for anything that does not fit.
        """
        return self.checked(message, cut).tokens()

    def checked(self, message: pb.Tokens, cut: int) -> Decoding:
        """What `decode` gives, its form checked now, to be decoded later."""
        basis = self.basis(cut)
        count, coder = message.count, message.coder
        check_within("tokens.count", count, 1, self.max_tokens)
        check_within("tokens.dims", message.dims, 1, basis.dim)
        if message.rest:
            self._check_rest(message)
        tables = None
        if coder != pb.CODER_PACKED:
            if coder not in self.coders(cut):
                raise PayloadError("tokens.coder", f"{coder} is not to be had at cut {cut} here")
            if message.tables_crc != self.tables_crc:
                raise PayloadError(
                    "tokens.tables_crc",
                    f"is {message.tables_crc:#010x}, the tables' is {self.tables_crc:#010x}",
                )
            tables = self.tables(cut)
        return checked_tokens(message, count * group_count(message), basis, tables)

    def _check_rest(self, message: pb.Tokens) -> None:
        if message.HasField("groups"):
            raise PayloadError("tokens.rest", "cannot be set with groups")
        check_within("tokens.count", message.count, 2, self.max_tokens)
        # All patches together, those that are sent and those that the rest token stands for.
        most = None if self.max_tokens is None else self.max_tokens - (message.count - 1)
        check_within("tokens.rest", message.rest, 1, most)


def _named(values: np.ndarray) -> bytes:
    return values.astype("<f2", copy=False).tobytes()
