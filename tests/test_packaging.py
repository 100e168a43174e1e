"""The wheel holds what git tracks of the package, no more and no less."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_wheel_holds_exactly_the_tracked_files(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=150)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            name.removeprefix("splitpoint/") for name in archive.namelist() if ".dist-info/" not in name
        }
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", *settings["only-include"]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert packed == set(listed.stdout.split())
    for name in (
        "py.typed",
        "protos/splitpoint.proto",
        "scenarios/quickstart.yaml",
        "models/weights/clutter.safetensors",
    ):
        assert name in packed
