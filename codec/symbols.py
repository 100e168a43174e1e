"""Tokens to complex channel symbols and back: the joint source-channel code (arXiv 2505.17604) in numpy.

    tokens (T, d) ─► encoder at the estimated SNR ─► (T, M) complex ─► first m ─► unit power ─► float16 re, im
    float16 re, im ─► zeros behind m ─► decoder at the measured SNR ─► tokens (T, d)

Any prefix of a token's symbols decodes, so one code serves every rate r = m / d up to M / d. Every token has unit
mean power, whatever m. `models/jscc.py` says what the layers are, and trains them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from ..protos import splitpoint_pb2 as pb
from .array_crc import arrays_crc
from .errors import PayloadError, check_within
from .halves import read_halves
from .selection import kept_count, sent_tokens

__all__ = [
    "ESTIMATE_SIGMA",
    "SNR_LIMIT_DB",
    "JointLayers",
    "SymbolCodec",
    "measured_snr_db",
    "symbol_count",
]

SNR_LIMIT_DB = 20.0
"""SNR is told to the layers within plus and minus this, the span they were trained on."""
_UNKNOWN_SNR_DB = 0.0
"""What a sender without an estimate takes: the middle of that span."""
ESTIMATE_SIGMA = 0.5
"""Relative standard deviation of the noise power as the sender estimates it: about 2 dB."""
_PREFIX = "jscc."
_TINY = np.float32(1e-12)


def symbol_count(dim: int, rate: float) -> int:
    """Complex symbols a token at rate r, in (0, 1]: max(1, floor(r * dim))."""
    return kept_count(dim, rate)


def measured_snr_db(power: float, count: int, snr_db: float) -> float:
    """The SNR by which a receiver decodes, in dB, within the layers' span.

    power   mean of |y|^2 over `count` equalised symbols. It was sent as exactly 1, so power - 1 measures the noise
            with variance (2 v + v^2) / count, v being its power
    snr_db  the sender's estimate, believed to ESTIMATE_SIGMA of the noise

    Both are weighed by their precisions, at the estimate. An estimate gone stale in a fade is so outvoted.
    """
    believed = 10.0 ** (-0.1 * min(SNR_LIMIT_DB, max(-SNR_LIMIT_DB, snr_db)))
    prior = 1.0 / (ESTIMATE_SIGMA * believed) ** 2
    seen = count / (2.0 * believed + believed * believed)
    noise = (prior * believed + seen * (power - 1.0)) / (prior + seen)
    limit = 10.0 ** (0.1 * SNR_LIMIT_DB)
    return -10.0 * math.log10(min(limit, max(1.0 / limit, noise)))


class JointLayers:
    """Encoder and decoder of one cut. `arrays` are those of `models.jscc.JointCode`, matrices as (in, out).

    crc  of them as float32: it names the code on the wire
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._a = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        self.dim = int(self._a["encoder.skip.weight"].shape[0])
        self.symbols = int(self._a["encoder.skip.weight"].shape[1]) // 2
        self.crc = arrays_crc(self._a, "<f4")

    def encode(self, tokens: np.ndarray, snr_db: float, symbols: int) -> np.ndarray:
        """Tokens (T, d), CLS first, to symbols complex64 (T, m) of unit mean power each."""
        a = self._a
        x = (tokens - a["mean"]) / a["scale"]
        h = self._film("encoder.film", self._linear("encoder.enter", x), _features(snr_db))
        raw = self._linear("encoder.leave", _silu(h)) + x @ a["encoder.skip.weight"]
        sent = raw[:, : 2 * symbols]
        power = np.square(sent).sum(axis=1, keepdims=True) / np.float32(symbols)
        unit: np.ndarray = np.ascontiguousarray(sent / np.sqrt(power + _TINY)).view(np.complex64)
        return unit

    def decode(self, received: np.ndarray, snr_db: float) -> np.ndarray:
        """Received symbols complex64 (T, m) to tokens float32 (T, d); snr_db is the sender's estimate."""
        a, (count, symbols) = self._a, received.shape
        power = float(np.square(np.abs(received.astype(np.complex128))).mean())
        snr_db = measured_snr_db(power, received.size, snr_db)
        pairs = received.view(np.float32) * np.float32((1.0 + 10.0 ** (-0.1 * snr_db)) ** -0.5)
        features = _features(snr_db, math.log2(symbols / self.symbols) / 4)
        enter = pairs @ a["decoder.enter.weight"][: 2 * symbols] + a["decoder.enter.bias"]
        h = _silu(self._film("decoder.film", enter, features))
        h = h + _silu(self._film("decoder.middle_film", self._linear("decoder.middle", h), features))
        tokens: np.ndarray = a["mean"] + a["scale"] * self._linear("decoder.leave", h)
        return tokens.reshape(count, self.dim)

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x @ self._a[f"{name}.weight"] + self._a[f"{name}.bias"]
        return y

    def _film(self, name: str, h: np.ndarray, features: np.ndarray) -> np.ndarray:
        """h (T, H) with the gain and offset of CLS for the first row, of a patch for the others."""
        both = self._linear(f"{name}.leave", np.tanh(self._linear(f"{name}.enter", features)))
        gain, offset = np.split(both, 2, axis=1)
        rows = np.minimum(np.arange(len(h)), 1)
        out: np.ndarray = h * (1 + gain[rows]) + offset[rows]
        return out


def _features(snr_db: float, rate: float | None = None) -> np.ndarray:
    """What FiLM is told, (2, 3) or with the rate (2, 5): for CLS, for a patch."""
    s = min(SNR_LIMIT_DB, max(-SNR_LIMIT_DB, snr_db)) / SNR_LIMIT_DB
    own = [s, s * s] if rate is None else [s, s * s, rate, rate * s]
    return np.array([[*own, 1.0], [*own, 0.0]], np.float32)


def _silu(x: np.ndarray) -> np.ndarray:
    # By tanh, which cannot overflow.
    out: np.ndarray = x * (np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x)))
    return out


class SymbolCodec:
    """Symbol payloads of one model.

    arrays      the model's arrays; those named `jscc.{cut}.*` count
    max_tokens  most tokens, CLS included, that `decode` accepts; None: no limit of its own
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], *, max_tokens: int | None = None) -> None:
        self.max_tokens = max_tokens
        parts: dict[int, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            if name.startswith(_PREFIX):
                _, cut, rest = name.split(".", 2)
                parts.setdefault(int(cut), {})[rest] = array
        self._layers = {cut: JointLayers(parts[cut]) for cut in sorted(parts)}

    @property
    def cuts(self) -> tuple[int, ...]:
        """Cuts that have a joint code, ascending."""
        return tuple(self._layers)

    def layers(self, cut: int) -> JointLayers:
        """The code of one cut. PayloadError (field `symbols`) where there is none."""
        if cut not in self._layers:
            known = f"only at {', '.join(map(str, self.cuts))}" if self._layers else "nor at any other"
            raise PayloadError("symbols", f"have no joint code at cut {cut} of this model, {known}")
        return self._layers[cut]

    def encode(
        self, tokens: np.ndarray, scores: np.ndarray | None, cut: int, keep: float, rate: float, snr_db: float
    ) -> tuple[pb.Symbols, np.ndarray]:
        """The payload of one sample, and the ascending positions of the kept patches, int64 (k,).

        tokens  float32 (n+1, d), CLS first; scores (n,), None where keep is 1
        rate    complex symbols a token over d; at most what the code has
        snr_db  estimate of the channel; NaN where there is none yet
        """
        layers = self.layers(cut)
        symbols = symbol_count(layers.dim, rate)
        if symbols > layers.symbols:
            raise PayloadError("symbols", f"are at most {layers.symbols} a token at cut {cut}, not {symbols}")
        if tokens.ndim != 2 or tokens.shape[1] != layers.dim:
            raise PayloadError("tokens", f"must have shape (n+1, {layers.dim}), not {tokens.shape}")
        sent, kept, _ = sent_tokens(tokens, scores, keep)
        if not np.isfinite(sent).all():
            raise PayloadError("tokens", "must be finite")
        snr_db = _UNKNOWN_SNR_DB if math.isnan(snr_db) else snr_db
        values = layers.encode(sent, snr_db, symbols).view(np.float32).astype("<f2")
        if not np.isfinite(values).all():
            raise PayloadError("tokens", "give symbols that are not finite")
        message = pb.Symbols(
            count=len(sent), per_token=symbols, values=values.tobytes(), snr_db=snr_db, code_crc=layers.crc
        )
        return message, kept

    def decode(self, message: pb.Symbols, cut: int) -> np.ndarray:
        """Tokens of a payload as received, float32 (count, d). PayloadError, naming the field, if it does not fit."""
        return self.checked(message, cut)()

    def checked(self, message: pb.Symbols, cut: int) -> Callable[[], np.ndarray]:
        """What `decode` gives, checked now and decoded by calling what is returned, which raises nothing."""
        layers = self.layers(cut)
        count, symbols = message.count, message.per_token
        if message.code_crc != layers.crc:
            raise PayloadError(
                "symbols.code_crc",
                f"is {message.code_crc:#010x}, that of the joint code is {layers.crc:#010x}",
            )
        check_within("symbols.count", count, 1, self.max_tokens)
        check_within("symbols.per_token", symbols, 1, layers.symbols)
        if not (message.HasField("snr_db") and math.isfinite(message.snr_db)):
            raise PayloadError("symbols.snr_db", "must be there and finite")
        values = read_halves("symbols.values", message.values, (count, 2 * symbols))
        return partial(layers.decode, values.view(np.complex64), message.snr_db)
