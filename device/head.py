"""The head's interface: the network's first blocks at batch 1, by torch or by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import DataError, MissingExtra, UsageError
from ..models.card import ModelCard
from ..models.pruning import Pruned, run_pruned
from ..models.recursion import margin, prediction, running_logits
from ..models.store import built_in_models, resolve

__all__ = [
    "CALIBRATION",
    "CODEC",
    "Head",
    "HeadState",
    "advanced",
    "begun",
    "calibration_of",
    "codec_of",
    "load_head",
    "passed_exit",
    "run_gated",
]

CODEC = "codec.safetensors"
CALIBRATION = "calibration.npz"


@dataclass(frozen=True, slots=True)
class HeadState:
    """Where the network stands on one input.

    tokens      float32 (n + 1, d), CLS first
    scores      float32 (n,), attention of CLS to the patches in the last block; None before the first
    blocks      blocks executed
    u, logits   exit state of the last exit passed, float32 (exit_state_dim,) and (classes,); None before it
    passed      exits passed

    Where gates drop patches, k of them are left: tokens (k + 2, d) with the budget token last, scores (k,), and
    keep        the fraction that was asked for, the budget token's alpha
    weights     float32 (k,), m of the last gate; positions int64 (k,), ascending. None where no gates act
    """

    tokens: np.ndarray
    scores: np.ndarray | None = None
    blocks: int = 0
    u: np.ndarray | None = None
    logits: np.ndarray | None = None
    passed: int = 0
    keep: float = 1.0
    weights: np.ndarray | None = None
    positions: np.ndarray | None = None

    @property
    def to_send(self) -> np.ndarray:
        """CLS and the patches that are left, float32 (k + 1, d): budget token and m stay here."""
        if self.weights is None or self.positions is None:
            return self.tokens
        return Pruned(self.tokens, self.weights, self.positions).to_send()

    @property
    def margin(self) -> float:
        """Of the last exit passed."""
        assert self.logits is not None
        return float(margin(self.logits))

    @property
    def prediction(self) -> int:
        """Of the last exit passed."""
        assert self.logits is not None
        return int(prediction(self.logits))


class Head(Protocol):
    """One network's blocks and exits. States are not changed, new ones are returned."""

    card: ModelCard

    def embed(self, image: np.ndarray, keep: float = 1.0) -> HeadState:
        """Image uint8 (H, W, C) to tokens; a network with gates is told how much to keep, others send later."""

    def run(self, state: HeadState, start: int, stop: int) -> HeadState:
        """Execute blocks start..stop-1."""

    def exit(self, state: HeadState, index: int) -> HeadState:
        """Read the exit of this index; the recursion goes on from the exits read before."""


def advanced(
    head: Head, image: np.ndarray, state: HeadState | None, stop: int, keep: float = 1.0
) -> HeadState:
    """The state after `stop` blocks, from `state` or from the image, all exits on the way read.

    keep counts where it starts from the image, and for networks with gates only.
    """
    if state is None:
        state = head.embed(image, keep)
    exits = head.card.exits
    while state.blocks < stop:
        place = min((after for after in exits if state.blocks < after <= stop), default=stop)
        state = head.run(state, state.blocks, place)
        if place in exits:
            state = head.exit(state, exits.index(place))
    return state


def passed_exit(state: HeadState, logits: np.ndarray, u: np.ndarray) -> HeadState:
    """The state once an exit gave q (classes,) and u."""
    return replace(state, u=u, logits=running_logits(state.logits, logits), passed=state.passed + 1)


def begun(tokens: np.ndarray, budget: np.ndarray, keep: float) -> HeadState:
    """The state of a network with gates before its first block: tokens (n + 1, d), budget token (d,)."""
    pruned = Pruned.begin(tokens, budget)
    return HeadState(pruned.tokens, keep=keep, weights=pruned.weights, positions=pruned.positions)


def run_gated(
    state: HeadState,
    start: int,
    stop: int,
    depth: int,
    block: Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]],
    gate: Callable[[int, np.ndarray], np.ndarray],
) -> HeadState:
    """Blocks start..stop-1 where gates act; `block` and `gate` as in `models.pruning.run_pruned`."""
    assert state.weights is not None
    assert state.positions is not None
    before = Pruned(state.tokens, state.weights, state.positions)
    at, scores = run_pruned(before, start, stop, depth, block, gate)
    return replace(
        state, tokens=at.tokens, scores=scores, blocks=stop, weights=at.weights, positions=at.positions
    )


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
    if (folder / "card.json").is_file():
        return True
    # A folder that happens to be named like a built-in model does not hide it.
    if folder.is_dir() and str(model) not in built_in_models():
        raise DataError(f"{model} is no exported model: there is no card.json in it")
    return False
