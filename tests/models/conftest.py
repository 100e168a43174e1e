"""A tiny network and its pieces, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from splitpoint.models.card import ModelCard
from splitpoint.models.compression import Bottleneck
from splitpoint.models.store import save_network
from splitpoint.models.vit import SplitViT


def tiny_card(**changes: object) -> ModelCard:
    values: dict[str, object] = {
        "name": "tiny",
        "image_size": (16, 24),
        "channels": 3,
        "classes": ("a", "b", "c", "d"),
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.2, 0.3),
        "patch": 4,
        "dim": 16,
        "depth": 4,
        "heads": 2,
        "mlp_ratio": 2.0,
        "exits": (1, 3, 4),
        "exit_state_dim": 8,
    }
    return ModelCard.model_validate(values | changes)


def tiny_network(seed: int = 0, **changes: object) -> SplitViT:
    torch.manual_seed(seed)
    return SplitViT(tiny_card(**changes)).eval()


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with bottlenecks for every cut."""
    network = tiny_network()
    codec: dict[str, np.ndarray] = {}
    x = network.embed(torch.randn(32, 3, 16, 24))
    for cut in range(1, network.card.depth):
        x, _ = network.run(x, cut - 1, cut)
        bottleneck = Bottleneck(network.card.dim)
        bottleneck.start_from(x.detach().reshape(-1, network.card.dim))
        for name, value in bottleneck.named_parameters():
            codec[f"codec.{cut}.{name}"] = value.detach().numpy()
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_network(path, network, network.card, codec)
    return path
