"""Rest tokens where networks run: the second token, which stands for the patches that were not sent.

The blocks behind the cut attend to it as to so many equal tokens (`codec/selection.py`, which names the sources).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..codec.selection import kept_count
from .compression import select

__all__ = ["rest_keys", "select_with_rest"]


def rest_keys(rests: Sequence[int], tokens: int) -> Tensor | None:
    """What each of `tokens` tokens counts as a key, float (B, tokens); None where no sample has a rest token.

    rests  patches that the second token of each sample stands for, 0 where it is a patch like the others
    """
    if not any(rests):
        return None
    keys = torch.ones(len(rests), tokens)
    keys[:, 1] = torch.tensor(rests).clamp(min=1)
    return keys


def select_with_rest(tokens: Tensor, scores: Tensor, keep: float) -> tuple[Tensor, Tensor | None]:
    """CLS, rest token and the best-scored patches of tokens (B, n+1, d), as (B, k+2, d), and their keys (B, k+2).

    All tokens and None where nothing is left out.
    """
    kept, patches = select(tokens, scores, keep), scores.shape[1]
    left_out = patches - kept_count(patches, keep)
    if not left_out:
        return kept, None
    rest = (tokens[:, 1:].sum(dim=1) - kept[:, 1:].sum(dim=1)) / left_out
    keys = rest_keys([left_out] * len(tokens), kept.shape[1] + 1)
    assert keys is not None
    return torch.cat([kept[:, :1], rest.unsqueeze(1), kept[:, 1:]], dim=1), keys.to(tokens.device)
