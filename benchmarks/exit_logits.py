"""Running logits of a learner at all its exits, for every sample of both splits; kept in a file between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from curves import SPLITS

from splitpoint.models.data import load_data
from splitpoint.models.learner import Learner, load_learner
from splitpoint.models.preprocess import normalise

BATCH = 100


def _logits(learner: Learner, images: np.ndarray) -> np.ndarray:
    """float32 (S, G, C)."""
    found = []
    for at in range(0, len(images), BATCH):
        state = learner.begin(torch.from_numpy(normalise(images[at : at + BATCH], learner.card)))
        gates = []
        for gate in range(learner.gates):
            qbar, state = learner.advance(state, gate)
            gates.append(qbar.numpy())
        found.append(np.stack(gates, axis=1))
    return np.concatenate(found)


def exit_logits(
    name: str, data_dir: Path | None, work: Path, samples: int = 0, data: str = "cifar10"
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray, Any]:
    """Of each split: running logits (S, G, C) and labels (S,); MACs (G,) of the segments; the learner's card.

    samples  only so many; 0: all
    """
    torch.set_num_threads(1)
    learner = load_learner(name)
    work.mkdir(parents=True, exist_ok=True)
    logits, labels = {}, {}
    for split in SPLITS:
        path = work / f"{learner.name}.{learner.id}.{split}{f'.{samples}' if samples else ''}.npz"
        if not path.is_file():
            read = load_data(data, split, data_dir=data_dir)
            read = read.some(samples) if samples else read
            np.savez_compressed(path, labels=read.labels, logits=_logits(learner, read.images))
        with np.load(path) as file:
            logits[split], labels[split] = file["logits"], file["labels"]
    return logits, labels, np.array(learner.gate_macs), learner.card
