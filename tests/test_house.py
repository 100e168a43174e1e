"""The house: imports point downwards only, and a board needs neither torch nor plots."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "protos": 0, "models": 1, "codec": 1, "channel": 1, "policies": 1, "device": 2, "server": 2, "sim": 3, "cli": 4,
}  # fmt: skip
SIDEWAYS = {("models", "codec"), ("policies", "models"), ("policies", "channel")}
WITH_TORCH = {
    "device/onnx_graphs.py",
    "device/split_run.py",
    "device/split_trainer.py",
    "device/torch_head.py",
    "models/accelerator.py",
    "models/activations.py",
    "models/adc.py",
    "models/checkpoint.py",
    "models/code_tables.py",
    "models/codec_command.py",
    "models/codec_train.py",
    "models/compression.py",
    "models/conv.py",
    "models/deit.py",
    "models/evaluate.py",
    "models/gate_command.py",
    "models/gate_eval.py",
    "models/gate_losses.py",
    "models/gate_start.py",
    "models/gate_train.py",
    "models/gated.py",
    "models/gates.py",
    "models/jscc.py",
    "models/jscc_train.py",
    "models/learner.py",
    "models/learner_run.py",
    "models/losses.py",
    "models/measure.py",
    "models/measure_heads.py",
    "models/measure_tails.py",
    "models/optimizers.py",
    "models/own.py",
    "models/pool.py",
    "models/pool_command.py",
    "models/pool_measure.py",
    "models/regimes.py",
    "models/rest.py",
    "models/shared_head.py",
    "models/split_compression/base.py",
    "models/split_compression/bottlenet.py",
    "models/split_compression/c3_sl.py",
    "models/split_compression/plain.py",
    "models/split_compression/top_k.py",
    "models/split_halves.py",
    "models/split_optimizer.py",
    "models/store.py",
    "models/train.py",
    "models/train_run.py",
    "models/vit.py",
    "server/learner.py",
    "server/tail.py",
    "server/train_session.py",
    "server/training.py",
    "sim/rl_train.py",
    "sim/rl_warm_start.py",
    "sim/tensor_opinions.py",
}
BOARD = [
    "codec.tokens", "codec.requests", "codec.image", "channel.config",
    "policies.greedy", "policies.trained", "policies.lyapunov", "models.profile",
    "device.agent", "device.session", "device.realtime", "device.onnx_head", "device.encoder", "protos.client", "cli",
]  # fmt: skip


def _sources() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [
        ROOT / name for name in listed.stdout.split() if name.split("/")[0] in FLOORS and "_pb2" not in name
    ]


def _imports(path: Path) -> list[tuple[int, str]]:
    """(level, module) of every import statement."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
        elif isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    folders = path.relative_to(ROOT).parts[:-1]
    here = path.relative_to(ROOT).parts[0]
    for level, module in _imports(path):
        assert module.split(".")[0] != "splitpoint", "imports inside the package are relative"
        from_root = level == len(folders) + 1
        there = module.split(".")[0]
        if from_root and there in FLOORS and there != here:
            assert FLOORS[there] < FLOORS[here] or (here, there) in SIDEWAYS, f"{here} imports {there}"


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_is_imported_only_where_networks_run(path: Path) -> None:
    imported = {module.split(".")[0] for level, module in _imports(path) if level == 0}
    assert ("torch" in imported) == (str(path.relative_to(ROOT)) in WITH_TORCH)


def test_board_modules_import_with_the_base_install_only() -> None:
    heavy = (
        "torch",
        "sklearn",
        "pyarrow",
        "simpy",
        "matplotlib",
        "jinja2",
        "gymnasium",
        "constriction",
        "onnx",
    )
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {heavy!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import importlib
for module in {BOARD!r}:
    importlib.import_module("splitpoint." + module)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
