"""Files are written whole or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from splitpoint.errors import DataError
from splitpoint.models.store import write_tensors
from splitpoint.whole_file import check_writable, whole_file


def _broken_off(path: Path) -> None:
    with whole_file(path, "note") as partial:
        partial.write_text("sec")
        raise KeyboardInterrupt


def test_what_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "note.txt"
    with whole_file(path, "note") as partial:
        partial.write_text("first")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt):
        _broken_off(path)
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_who_may_read_a_file_is_for_the_umask_to_say(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "weights.safetensors"
    plain.touch()
    with whole_file(path, "model file") as partial:
        save_file({"weight": np.zeros(3)}, partial)
    assert path.stat().st_mode == plain.stat().st_mode


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "note.txt"
    with pytest.raises(DataError, match=r"^cannot write the note .*note\.txt: "), whole_file(path, "note"):
        pass
    for place in (path, tmp_path):
        with pytest.raises(DataError, match="cannot write the note"):
            check_writable(place, "note")


def test_weights_on_a_full_disk_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(DataError, match=r"cannot write the model file .*weights"):
            write_tensors(path, {"weight": np.zeros(1000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(tmp_path.iterdir())


def test_a_check_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "note.txt", "note")
    assert list((tmp_path / "new").iterdir()) == []
