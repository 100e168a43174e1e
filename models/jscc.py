"""Joint source-channel coding of tokens (arXiv 2505.17604), one pair for every rate and SNR, in torch.

    x (T, d) ─► standardise ─► W1 ─► FiLM(SNR) ─► silu ─► W2 + skip ─► (T, M) complex ─► first m ─► unit power
                                                                                                    │ y = z + n/h
    x' (T, d) ◄─ V3 ◄─ silu ◄─ FiLM ◄─ V2 ◄─ silu ◄─ FiLM(SNR, m) ◄─ V1 ◄─ zeros behind m ◄─────────┘

The paper trains an encoder and a decoder for each rate. Here the symbols are nested: of M = r_max d the first m
are sent, any m from 1 to M, and the power is made one after the cut, so the rate is chosen at run time. Both
sides are conditioned (FiLM) on the SNR and on whether a token is CLS, the decoder on m too. A pair that is
dedicated to one rate, the rival, is the same module with M = r d and m = M always.

The code that devices and servers run is `codec/symbols.py`, in numpy; `arrays` are what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..codec.symbols import ESTIMATE_SIGMA, SNR_LIMIT_DB

__all__ = ["JointCode", "through_noise"]

_CONDITIONS = 16


class _Film(nn.Module):
    """h * (1 + gain) + offset, with gain and offset (..., hidden) from a few condition features (..., F)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.enter = nn.Linear(features, _CONDITIONS)
        self.leave = nn.Linear(_CONDITIONS, 2 * hidden)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, h: Tensor, features: Tensor) -> Tensor:
        gain, offset = self.leave(torch.tanh(self.enter(features))).chunk(2, dim=-1)
        return h * (1 + gain) + offset


class JointCode(nn.Module):
    """Encoder and decoder of one cut, for tokens of `dim` d, at most `symbols` M a token, `hidden` units.

    encode  tokens (B, T, d), SNR estimate in dB (B,), symbols a token m (B,) -> (B, T, M, 2), zero behind m
    decode  received (B, T, M, 2), SNR estimate (B,), m (B,) -> tokens (B, T, d)
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, symbols: int, hidden: int) -> None:
        super().__init__()
        self.symbols = symbols
        width = 2 * symbols
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.encoder = nn.ModuleDict(
            {
                "film": _Film(3, hidden),
                "enter": nn.Linear(dim, hidden),
                "leave": nn.Linear(hidden, width),
                "skip": nn.Linear(dim, width, bias=False),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "film": _Film(5, hidden),
                "enter": nn.Linear(width, hidden),
                "middle_film": _Film(5, hidden),
                "middle": nn.Linear(hidden, hidden),
                "leave": nn.Linear(hidden, dim),
            }
        )

    @torch.no_grad()
    def start_from(self, tokens: Tensor) -> None:
        """Mean and spread of tokens (N, d); the skip starts as their principal axes, the widest first."""
        x = tokens.double().cpu()
        mean, scale = x.mean(dim=0), x.std(dim=0) + 1e-4
        self.mean.copy_(mean.float())
        self.scale.copy_(scale.float())
        axes = torch.linalg.eigh(torch.cov(((x - mean) / scale).T)).eigenvectors.flip(1)
        axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)))
        width = 2 * self.symbols
        repeated = axes.repeat(1, -(-width // axes.shape[1]))[:, :width]
        skip = self.encoder["skip"]
        assert isinstance(skip, nn.Linear)
        skip.weight.copy_(repeated.T.float())

    def encode(self, tokens: Tensor, snr_db: Tensor, symbols: Tensor) -> Tensor:
        x = (tokens - self.mean) / self.scale
        e = self.encoder
        h = functional.silu(e["film"](e["enter"](x), _features(snr_db, tokens.shape[1])))
        raw = (e["leave"](h) + e["skip"](x)).unflatten(-1, (self.symbols, 2))
        sent = raw * _mask(symbols, self.symbols)
        power = sent.square().sum(dim=(-2, -1), keepdim=True) / symbols[:, None, None, None]
        return sent * torch.rsqrt(power + 1e-12)

    def decode(self, received: Tensor, snr_db: Tensor, symbols: Tensor) -> Tensor:
        snr_db = _measured_snr_db(received, snr_db, symbols)
        y = received * torch.sqrt(_share(snr_db))[:, None, None, None]
        rate = torch.log2(symbols / self.symbols) / 4
        features = _features(snr_db, received.shape[1], rate)
        d = self.decoder
        h = functional.silu(d["film"](d["enter"](y.flatten(-2)), features))
        h = h + functional.silu(d["middle_film"](d["middle"](h), features))
        out: Tensor = self.mean + self.scale * d["leave"](h)
        return out

    def arrays(self) -> dict[str, np.ndarray]:
        """float32 arrays by name, for `codec.symbols`; matrices as (in, out)."""
        return {
            name: np.ascontiguousarray(value.detach().cpu().numpy().T)
            for name, value in self.state_dict().items()
        }

    def read(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The reverse of `arrays`."""
        self.load_state_dict(
            {name: torch.from_numpy(np.asarray(array, np.float32).T.copy()) for name, array in arrays.items()}
        )


def through_noise(sent: Tensor, noise: Tensor, snr_db: Tensor, symbols: Tensor) -> Tensor:
    """z + n / h: sent (B, T, M, 2), noise standard normal of that shape, true SNR (B,), nothing behind m (B,)."""
    deviation = 0.5**0.5 * 10 ** (-0.05 * snr_db)
    return sent + noise * deviation[:, None, None, None] * _mask(symbols, sent.shape[2])


def _mask(symbols: Tensor, most: int) -> Tensor:
    return (torch.arange(most, device=symbols.device) < symbols[:, None]).float()[:, None, :, None]


def _measured_snr_db(received: Tensor, snr_db: Tensor, symbols: Tensor) -> Tensor:
    """As `codec.symbols.measured_snr_db`, of each sample (B,)."""
    count = symbols * received.shape[1]
    power = received.square().sum(dim=(1, 2, 3)) / count
    believed = 10 ** (-0.1 * snr_db.clamp(-SNR_LIMIT_DB, SNR_LIMIT_DB))
    prior = 1 / (ESTIMATE_SIGMA * believed).square()
    seen = count / (2 * believed + believed.square())
    noise = (prior * believed + seen * (power - 1)) / (prior + seen)
    limit = 10 ** (0.1 * SNR_LIMIT_DB)
    return -10 * torch.log10(noise.clamp(1 / limit, limit))


def _share(snr_db: Tensor) -> Tensor:
    """Signal's share of the received power."""
    return 1 / (1 + 10 ** (-0.1 * snr_db))


def _features(snr_db: Tensor, tokens: int, rate: Tensor | None = None) -> Tensor:
    """(B, T, 3) or, with the rate, (B, T, 5): what FiLM is told."""
    s = snr_db.clamp(-SNR_LIMIT_DB, SNR_LIMIT_DB) / SNR_LIMIT_DB
    own = [s, s * s] if rate is None else [s, s * s, rate, rate * s]
    per_sample = torch.stack(own, dim=-1)[:, None, :].expand(-1, tokens, -1)
    cls = torch.zeros(tokens, device=snr_db.device)
    cls[0] = 1.0
    return torch.cat([per_sample, cls[None, :, None].expand(len(s), -1, 1)], dim=-1)
