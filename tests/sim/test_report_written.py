"""Files of a run: written whole or not at all; what hinders it is one line."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest

from splitpoint.errors import DataError, MissingExtra
from splitpoint.sim.report import write_report
from splitpoint.sim.run import Run, write_run

from .report_data import run


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot write the report .*missing"):
        write_report(tmp_path / "missing" / "report.html", **run("local", count=2))


def test_what_breaks_off_leaves_the_files_of_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = run("local")
    made = Run(*(arguments[name] for name in ("scenario", "engine", "summaries", "tables")))
    write_run(tmp_path, made)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {"requests.parquet", "summary.json"}

    def full(merged: Any, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    made.summaries[0]["policy"] = "another"
    with pytest.raises(DataError, match=r"requests.parquet: No space left on device"):
        write_run(tmp_path, made)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_missing_libraries_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"splitpoint\[sim\]"):
        write_report(tmp_path / "report.html", **run("local", count=2))
