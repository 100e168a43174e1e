"""Regenerate the committed protobuf code: `python -m splitpoint.protos.generate [OUT_DIR]`."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import MissingExtra

__all__ = ["generate"]

ROOT = Path(__file__).resolve().parent.parent


def generate(out: Path) -> None:
    """Write splitpoint/protos/splitpoint_pb2{.py,.pyi,_grpc.py} below `out`."""
    try:
        from grpc_tools import protoc
    except ImportError:
        raise MissingExtra("generating protobuf code", "dev") from None
    # The plugin lies beside this interpreter, which need not be on the PATH.
    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    arguments = ["protoc", f"-I{ROOT / '.dev'}", f"--plugin=protoc-gen-mypy={plugin}"]
    arguments += [f"--python_out={out}", f"--mypy_out={out}"]
    arguments += [f"--grpc_python_out={out}", "splitpoint/protos/splitpoint.proto"]
    if status := protoc.main(arguments):
        raise RuntimeError(f"protoc failed with status {status}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".dev")
