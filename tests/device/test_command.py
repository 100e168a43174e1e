"""`splitpoint device` over a folder of images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from splitpoint.device.command import run_images
from splitpoint.errors import DataError

from .conftest import Server, Small, free_address


@pytest.fixture(scope="module")
def images(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images in folders named like classes, one elsewhere, one that is none, and a file of another kind."""
    folder = tmp_path_factory.mktemp("images")
    for seed in range(7):
        place = folder / ("elsewhere" if seed == 6 else "ab"[seed % 2])
        place.mkdir(exist_ok=True)
        Image.fromarray(small.image(seed)[:, :, 0]).save(place / f"{seed}.png")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    return folder


def test_json_lines_hold_an_object_an_image_and_the_summary_last(
    server: Server, small: Small, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_images(str(small.folder), server.address, images, deadline_s=2.0, as_json=True)
    out, err = capsys.readouterr()
    *rows, last = [json.loads(line) for line in out.splitlines()]
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    assert len(rows) == 7
    assert all(row["where"] in ("local", "server") and row["latency_s"] < 2.0 for row in rows)
    labelled = {row["image"]: row["correct"] for row in rows}
    assert labelled.pop("elsewhere/6.png") is None
    assert all(labelled[row["image"]] == (row["class_name"] == row["image"][0]) for row in rows[:6])
    summary = last["summary"]
    assert (summary["images"], summary["unreadable"]) == (7, 1)
    assert summary["accuracy"] == sum(labelled.values()) / 6
    assert summary["local"] == sum(row["local"] for row in rows)
    assert err.count("broken.png") >= 1


def test_rows_and_a_summary_without_a_server(
    small: Small, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_images(str(small.folder), free_address(), images, deadline_s=0.5)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 1 + 7 + 1
    assert lines[0].split() == ["image", "answer", "margin", "where", "ms", "bytes"]
    assert sum("local degraded" in line for line in lines) == 7
    assert lines[-1].startswith("7 images")
    assert "7 degraded" in lines[-1]
    assert "answering locally for now" in err


def test_one_file_will_do(small: Small, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_images(str(small.folder), free_address(), images / "a" / "0.png", deadline_s=0.5)
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 image,")


def test_no_images_are_one_clear_line(small: Small, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in"):
        run_images(str(small.folder), free_address(), tmp_path, deadline_s=0.5)
    with pytest.raises(DataError, match="no folder of images"):
        run_images(str(small.folder), free_address(), tmp_path / "nowhere", deadline_s=0.5)


@pytest.mark.parametrize("as_json", [False, True])
def test_images_of_which_none_can_be_read_are_an_error(
    small: Small, images: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    broken = images / "broken.png"
    with pytest.raises(DataError, match=r"no image was answered: none in .*broken\.png can be read"):
        run_images(str(small.folder), free_address(), broken, deadline_s=0.5, as_json=as_json)
    out, err = capsys.readouterr()
    assert "cannot read the image" in err
    assert len(out.splitlines()) == 1


def test_the_example_runs(server: Server, small: Small, images: Path) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "client.py"
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            example,
            server.address,
            small.folder,
            *sorted(images.glob("a/*.png")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert all("margin" in line for line in done.stdout.splitlines())
