"""What the device needs of a model, from an exported folder or from a model's name or file."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, MissingExtra, UsageError
from ..models.store import built_in_models, resolve
from .head import Head
from .onnx_head import CARD

__all__ = ["CALIBRATION", "CODEC", "calibration_of", "codec_of", "load_head"]

CODEC = "codec.safetensors"
CALIBRATION = "calibration.npz"


def codec_of(model: str | Path) -> Path:
    """The file with the codec's arrays: of an exported folder, or of a model's name or file."""
    return Path(model) / CODEC if _exported(model) else resolve(model)


def calibration_of(model: str | Path) -> Path | None:
    """The calibration profile in an exported folder or beside a model's file; None where there is none."""
    if _exported(model):
        path = Path(model) / CALIBRATION
    else:
        file = resolve(model)
        path = file.with_name(f"{file.stem}.{CALIBRATION}")
    return path if path.is_file() else None


def load_head(model: str | Path, kind: str = "auto") -> Head:
    """The head of a model.

    model   a folder that `splitpoint export` made (ONNX Runtime), or a model's name or file (torch)
    kind    "auto", "torch" or "onnx"; a named model has no ONNX files
    """
    exported = _exported(model)
    if kind == "onnx" and not exported:
        raise UsageError(
            f"{model} is not an exported model: make one with `splitpoint export {model} --out DIR`"
        )
    if kind == "torch" and exported:
        raise UsageError(f"{model} is an exported model: it runs on ONNX Runtime, not on torch")
    if exported:
        from .onnx_head import OnnxHead

        return OnnxHead(Path(model))
    try:
        from .torch_head import TorchHead
    except ImportError:
        raise MissingExtra(
            f"running {model} on torch (an exported folder, from `splitpoint export`, needs none)", "sim"
        ) from None
    return TorchHead(model)


def _exported(model: str | Path) -> bool:
    folder = Path(model)
    if (folder / CARD).is_file():
        return True
    # A folder that happens to be named like a built-in model does not hide it.
    if folder.is_dir() and str(model) not in built_in_models():
        raise DataError(f"{model} is no exported model: there is no {CARD} in it")
    return False
