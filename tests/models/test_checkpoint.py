"""Checkpoints: what cannot be written or read is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splitpoint.errors import DataError, UsageError
from splitpoint.models.checkpoint import read_checkpoint, write_checkpoint


def test_what_was_written_is_read_by_its_own_training_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.pt"
    assert read_checkpoint(path, "mine") is None
    write_checkpoint(path, "mine", {"step": 3, "x": torch.arange(4)})
    state = read_checkpoint(path, "mine")
    assert state is not None
    assert state["step"] == 3
    assert state["x"].tolist() == [0, 1, 2, 3]
    assert [file.name for file in path.parent.iterdir()] == ["run.pt"]
    with pytest.raises(UsageError, match="another configuration"):
        read_checkpoint(path, "yours")


def test_what_cannot_be_written_or_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.pt.part").mkdir()
    with pytest.raises(DataError, match="cannot write"):
        write_checkpoint(tmp_path / "run.pt", "mine", {})
    with pytest.raises(DataError, match="cannot write"):
        write_checkpoint(Path("/proc/nowhere/run.pt"), "mine", {})
    torch.save(torch.zeros(3), tmp_path / "other.pt")
    with pytest.raises(DataError, match="remove it"):
        read_checkpoint(tmp_path / "other.pt", "mine")
