"""A tiny network and its pieces, made once, and small files of data."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from splitpoint.models.card import ModelCard
from splitpoint.models.compression import Bottleneck
from splitpoint.models.data import Dataset
from splitpoint.models.parquet_file import class_metadata
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


class Colours:
    """Four colours, told by the mean of the channels."""

    identity = ""

    def draw(self, key: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        draws = np.random.default_rng(key)
        labels = draws.integers(0, 4, count)
        tints = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40]])
        images = tints[labels][:, None, None, :] + draws.integers(-30, 30, (count, 16, 24, 3))
        return images.astype(np.uint8), labels

    @property
    def held_out(self) -> Dataset:
        return Dataset(*self.draw(10**6, 40), tuple("abcd"))

    evaluation = held_out

    def epoch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.draw(index, 50)


def write_cifar10(folder: Path, sizes: Mapping[str, int], names: Sequence[str] = ()) -> None:
    """Noise in CIFAR-10's shape as cifar10/SPLIT.parquet; image i of a split has the label i % 10.

    names  of the labels, which the files tell
    """
    (folder / "cifar10").mkdir()
    for split, count in sizes.items():
        rng = np.random.default_rng(count)
        cells = []
        for pixels in rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            cells.append(buffer.getvalue())
        table = pa.table({"image": cells, "label": [place % 10 for place in range(count)]})
        table = table.replace_schema_metadata(class_metadata(names))
        parquet.write_table(table, folder / "cifar10" / f"{split}.parquet")


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with bottlenecks for every cut, and rest tokens at the second."""
    network = tiny_network()
    codec: dict[str, np.ndarray] = {}
    x = network.embed(torch.randn(32, 3, 16, 24))
    for cut in range(1, network.card.depth):
        x, _ = network.run(x, cut - 1, cut)
        bottleneck = Bottleneck(network.card.dim)
        bottleneck.start_from(x.detach().reshape(-1, network.card.dim))
        for name, value in bottleneck.named_parameters():
            codec[f"codec.{cut}.{name}"] = value.detach().numpy()
    codec["codec.2.rest"] = np.array([1], np.uint8)
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_network(path, network, network.card, codec)
    return path
