"""Integer tables for the entropy coder, fitted to what a network sends, and put into its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from ..codec.entropy import fit_tables
from ..codec.tokens import TokenCodec
from ..errors import UsageError
from ..seeding import generator
from .data import NAMED, load_data
from .identity import CODEC
from .own import own_data
from .preprocess import normalise
from .store import codec_arrays, load_network, resolve, save_tables
from .vit import SplitViT

__all__ = ["code_tables", "fit_model_tables", "network_tables"]

_KEEPS = (1.0, 0.25)
_FEW = 0.0625
"""A keep that rest tokens make worth while."""
_DIM_SHARES = (1, 2, 4, 8)


def code_tables(
    arrays: Mapping[str, np.ndarray], dim: int, activations: Iterable[tuple[int, np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Tables `codec.{cut}.tables` for samples after some cuts, at a mix of keeps and dims.

    arrays       the model's `codec.*` arrays
    dim          the network's dim
    activations  (cut, tokens float32 (S, n+1, d), scores float32 (S, n)) of training samples
    """
    codec = TokenCodec(arrays, dim=dim)
    return {
        f"codec.{cut}.tables": fit_tables(
            [
                codec.quantised(x, s, cut, keep, max(1, dim // share))[0]
                for x, s in zip(tokens, scores, strict=True)
                for keep in ((*_KEEPS, _FEW) if codec.sends_rest(cut) else _KEEPS)
                for share in _DIM_SHARES
            ],
            dim,
        )
        for cut, tokens, scores in activations
    }


def fit_model_tables(
    model: str | Path,
    data: str | Path,
    *,
    data_dir: Path | None = None,
    samples: int = 96,
    seed: int = 0,
    out: Path | None = None,
) -> Path:
    """Fit the tables of a model that exists on training data and write them into its file; returns the path.

    data     a named set, parquet file or image folder, of which the training split is read
    samples  of the data, drawn by `seed`
    out      another file; by default the model's own

    Weights and id stay as they are, and so do answers: profiles measured with coder "packed" remain valid.
    UsageError for a file that is no splitpoint model with a codec of its own.
    """
    path = resolve(model)
    network, card = load_network(path)
    arrays = codec_arrays(path)
    if not any(name.startswith(CODEC) and name.endswith(".mean") for name in arrays):
        raise UsageError(f"{path} has no bottlenecks to code behind: it was not made by `splitpoint train`")
    if str(data) in NAMED:
        loaded = load_data(data, "train", card=card, data_dir=data_dir)
    else:
        loaded = own_data(data, card, seed, matched=True)[0].train
    chosen = generator(seed, "code-tables").permutation(len(loaded))[:samples]
    return save_tables(path, network_tables(network, arrays, loaded.images[chosen]), out)


@torch.inference_mode()
def network_tables(
    network: SplitViT, arrays: Mapping[str, np.ndarray], images: np.ndarray
) -> dict[str, np.ndarray]:
    """`code_tables` of all cuts for images uint8 (S, H, W, C); the network is on the CPU."""
    card, found = network.card, []
    x = network.embed(torch.from_numpy(normalise(images, card)))
    for cut in range(1, card.depth):
        x, scores = network.run(x, cut - 1, cut)
        found.append((cut, x.numpy(), scores.numpy()))
    return code_tables(arrays, card.dim, found)
