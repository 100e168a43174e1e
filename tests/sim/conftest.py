"""Small scenarios that the tests of the engines share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from splitpoint.models.data import Dataset, load_data
from splitpoint.models.grid import Grid
from splitpoint.models.learner import load_learner
from splitpoint.models.measure import measure
from splitpoint.models.pool_measure import measure_pool
from splitpoint.models.store import load_network, save_network
from splitpoint.sim.scenario import Scenario, load_scenario


def changed(name: str = "quickstart", **changes: Any) -> Scenario:
    """A built-in scenario with top-level fields replaced."""
    return load_scenario(name, changes)


def clutter_folder(folder: Path, count: int = 24) -> Dataset:
    """The first canvases of the evaluation split as an image folder, a sub-folder for every digit; the whole split."""
    data = load_data("clutter", "evaluation")
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for index in range(count):
        Image.fromarray(data.images[index, :, :, 0]).save(
            folder / str(data.labels[index]) / f"{index:04}.png"
        )
    return data


@pytest.fixture(scope="session")
def quickstart() -> Scenario:
    return changed()


@pytest.fixture(scope="session")
def noisy_quorum(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """quickstart on a few images with three learners: the network itself, on the device, and two noisy copies."""
    folder = tmp_path_factory.mktemp("quorum")
    clutter_folder(folder / "images")
    files = ["clutter"]
    for seed in (1, 2):
        network, card = load_network("clutter")
        draws = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in network.parameters():
                value += 0.2 * value.std(correction=0) * torch.randn(value.shape, generator=draws)
        path = folder / f"noisy-{seed}.safetensors"
        save_network(path, network, card.model_copy(update={"name": path.stem}), {})
        files.append(str(path))
    images = load_data(folder / "images", card=card)
    grid = Grid(tuple(range(card.depth)), (1.0,), (card.dim,), (8,))
    for split in ("calibration", "evaluation"):
        measure("clutter", images, split, grid=grid, progress=False).save(folder / f"{split}.npz")
        pool = measure_pool([load_learner(file) for file in files], split, images, timed=2)
        pool.save(folder / f"pool.{split}.npz")
    return changed(
        data={"name": str(folder / "images")},
        profiles={split: str(folder / f"{split}.npz") for split in ("calibration", "evaluation")},
        requests=120,
        quorum={
            "pool": str(folder),
            "learners": [
                {"name": "clutter", "place": "device"},
                {"name": "noisy-1", "place": "a"},
                {"name": "noisy-2", "place": "b"},
            ],
            "server": {"macs_per_s": 2.0e9, "base_s": 0.001},
        },
        policies=[
            {"kind": "static", "name": "server", "decision": {"split": 0}},
            {"kind": "static", "name": "split", "decision": {"split": 2, "exit_margin": 0.95}},
            {"kind": "static", "name": "always", "decision": {"split": 2}},
            {"kind": "greedy"},
        ],
    )
