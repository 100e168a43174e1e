"""Inputs on which the report draws the patches that are kept."""

from __future__ import annotations

import numpy as np

from ..codec.selection import kept_tokens
from ..device.head import Head, advanced
from ..device.load import load_head
from ..models.data import Dataset
from .records import Table
from .report_patches import KeptPatches
from .setup import Setup

__all__ = ["kept_patches"]

_KEEPS = (0.5, 0.25, 0.125)
_PICTURES = 4


def kept_patches(setup: Setup, tables: dict[str, Table], data: Dataset) -> list[KeptPatches]:
    """The first inputs of the run, with the patches that a device keeps at the most used cut; needs torch."""
    cut = _usual_cut(setup, tables)
    head = load_head(setup.model_path, "torch")
    pictures = []
    samples = next(iter(tables.values()))["sample"][:_PICTURES].tolist() if tables else []
    for sample in samples:
        final = advanced(head, data.images[sample], None, setup.card.depth)
        pictures.append(
            KeptPatches(
                data.images[sample],
                int(data.labels[sample]),
                final.prediction,
                setup.card.classes,
                {keep: _kept(head, data.images[sample], cut, keep) for keep in _KEEPS},
                f"sample {sample}, cut after block {cut}; the answer is that of the whole network",
            )
        )
    return pictures


def _kept(head: Head, image: np.ndarray, cut: int, keep: float) -> np.ndarray:
    """Positions of the patches that are sent from the cut: what gates have left, or else the best-scored."""
    state = advanced(head, image, None, cut, keep)
    if state.positions is not None:
        return state.positions
    assert state.scores is not None
    return kept_tokens(state.scores, keep)


def _usual_cut(setup: Setup, tables: dict[str, Table]) -> int:
    cuts = [
        int(cut)
        for columns in tables.values()
        for cut in columns["cut"][columns["offloaded"] & (columns["cut"] > 0)]
    ]
    return max(set(cuts), key=cuts.count) if cuts else max(1, setup.card.depth // 3)
