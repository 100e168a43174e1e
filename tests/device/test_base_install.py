"""A board: the wheel without extras, so no torch. The client works there, and when its server is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from .conftest import Server, Small, Start

pytestmark = [pytest.mark.xdist_group("base-install"), pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}

BOARD = """
import json, sys
import numpy as np
from splitpoint.device.client import Client
from splitpoint.policies.decision import Decision

address, model, shape = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with Client(address, model, policy=Decision(2, keep=0.5, bits=4), deadline_s=0.5) as client:
    for line in sys.stdin:
        image = np.random.default_rng(int(line)).integers(0, 256, shape, dtype=np.uint8)
        answer = client.infer(image)
        print(json.dumps([answer.prediction, answer.where, answer.degraded, answer.late]), flush=True)
loaded = sorted(name for name in ("torch", "onnx", "simpy", "sklearn", "pyarrow") if name in sys.modules)
print(json.dumps(loaded))
"""


def run(*command: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=150,
        **options,
    )


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with nothing but the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("board")
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    venv.create(folder / "venv", with_pip=True)
    binaries = folder / "venv" / "bin"
    (wheel,) = folder.glob("*.whl")
    pip = (binaries / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    installed = run(*pip, "-c", ROOT / "constraints.txt", wheel)
    assert installed.returncode == 0, installed.stderr
    return binaries


@pytest.fixture
def killable(start_server: Start, small: Small) -> Iterator[Server]:
    server = start_server(small.file)
    yield server
    server.end()


def test_the_base_install_has_no_torch(board: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('torch', 'onnx', 'simpy', 'sklearn') if u.find_spec(n)])"
    assert run(board / "python", "-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_the_client_answers_there_and_goes_on_when_the_server_is_killed(
    board: Path, killable: Server, small: Small, tmp_path: Path
) -> None:
    shape = json.dumps([*small.card.image_size, small.card.channels])
    program = subprocess.Popen(
        [str(board / "python"), "-W", "error", "-c", BOARD, killable.address, str(small.folder), shape],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    assert program.stdin is not None
    assert program.stdout is not None

    def infer(seed: int) -> list[Any]:
        program.stdin.write(f"{seed}\n")
        program.stdin.flush()
        line = program.stdout.readline()
        assert line, program.stderr.read()
        return json.loads(line)

    try:
        assert [infer(seed)[1:] for seed in range(10)] == [["server", False, False]] * 10
        killable.kill()
        assert [infer(seed)[1:] for seed in range(20)] == [["local", True, False]] * 20
        rest, errors = program.communicate(timeout=30)
        assert program.returncode == 0, errors
        assert json.loads(rest) == []
        assert errors == ""
    finally:
        program.kill()
        program.communicate()


def test_the_commands_of_a_board_work_there(
    board: Path, server: Server, small: Small, tmp_path: Path
) -> None:
    for seed in range(3):
        Image.fromarray(small.image(seed)[:, :, 0]).save(tmp_path / f"{seed}.png")
    command = (board / "splitpoint", "device", "--server", server.address, "--images", tmp_path)
    done = run(*command, "--model", small.folder, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["summary"]["images"] == 3
    refused = run(board / "splitpoint", "export", "clutter", "--out", tmp_path / "exported", cwd=tmp_path)
    assert refused.returncode == 5
    assert "splitpoint[sim]" in refused.stderr
    assert "Traceback" not in refused.stderr
    refused = run(*command, "--model", small.file, cwd=tmp_path)
    assert refused.returncode == 5
    assert "splitpoint export" in refused.stderr
