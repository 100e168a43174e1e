"""The head on ONNX Runtime: what a board runs, without torch, from a folder that `splitpoint export` made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ..errors import DataError
from ..models.card import ModelCard, card_problem
from ..models.preprocess import normalise
from .head import HeadState, begun, passed_exit, run_gated

__all__ = ["BLOCK", "BUDGET", "CARD", "EMBED", "EXIT", "GATE", "OnnxHead"]

CARD = "card.json"
EMBED = "embed.onnx"
BLOCK = "block_{}.onnx"
EXIT = "exit_{}.onnx"
BUDGET = "budget.onnx"
GATE = "gate_{}.onnx"


class OnnxHead:
    """An exported folder's network.

    Raises DataError for a folder that is broken or mixes the parts of two models.
    """

    def __init__(self, folder: Path) -> None:
        self.card = _read_card(folder)
        self._embed = _session(folder / EMBED, self.card)
        self._blocks = [_session(folder / BLOCK.format(i), self.card) for i in range(self.card.depth)]
        self._exits = [_session(folder / EXIT.format(i), self.card) for i in range(len(self.card.exits))]
        if self.card.gates:
            self._budget = _session(folder / BUDGET, self.card)
            self._gates = [_session(folder / GATE.format(i), self.card) for i in range(1, self.card.depth)]
        self._no_state = np.zeros((1, self.card.exit_state_dim), np.float32)

    def embed(self, image: np.ndarray, keep: float = 1.0) -> HeadState:
        (tokens,) = self._embed.run(None, {"image": normalise(image[None], self.card)})
        if keep == 1.0 or not self.card.gates:
            return HeadState(tokens)
        (budget,) = self._budget.run(None, {"alpha": np.array([[keep]], np.float32)})
        return begun(tokens, budget[0], keep)

    def run(self, state: HeadState, start: int, stop: int) -> HeadState:
        if state.positions is not None:
            return run_gated(state, start, stop, self.card.depth, self._block, self._gate)
        tokens, scores = state.tokens, state.scores
        for block in self._blocks[start:stop]:
            tokens, scores = block.run(None, {"tokens": tokens})
        return HeadState(tokens, scores, stop, state.u, state.logits, state.passed)

    def exit(self, state: HeadState, index: int) -> HeadState:
        cls = state.tokens[:1]
        if self.card.exit_kind == "linear":
            (logits,) = self._exits[index].run(None, {"cls": cls})
            return passed_exit(state, logits[0], self._no_state[0])
        before = self._no_state if state.u is None else state.u[None]
        logits, u = self._exits[index].run(None, {"cls": cls, "u": before})
        return passed_exit(state, logits[0], u[0])

    def _block(self, index: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, attention = self._blocks[index].run(None, {"tokens": tokens})
        return x, attention

    def _gate(self, index: int, tokens: np.ndarray) -> np.ndarray:
        (weights,) = self._gates[index - 1].run(None, {"tokens": tokens})
        return np.asarray(weights)


def _read_card(folder: Path) -> ModelCard:
    path = folder / CARD
    try:
        return ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the exported model's card {path}: {error}") from None
    except ValidationError as error:
        raise DataError(f"{path}: the model card is broken: {card_problem(error)}") from None


def _session(path: Path, card: ModelCard) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One core, as a board has it to spare: more help only where they are idle.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        raise DataError(f"cannot load {path}: {' '.join(str(error).split())}") from None
    found = session.get_modelmeta().custom_metadata_map.get("model_id")
    if found != card.id:
        raise DataError(f"{path} belongs to model {found}, the card beside it to {card.id}: export again")
    # A card that somebody has edited keeps its id.
    by_card = {
        "image": [1, card.channels, *card.image_size],
        "logits": [1, card.class_count],
        "u": [1, card.exit_state_dim],
    }
    for value in (*session.get_inputs(), *session.get_outputs()):
        if value.shape != (wanted := by_card.get(value.name, value.shape)):
            raise DataError(
                f"{path}: {value.name} of {value.shape}, by the card beside it of {wanted}: export again"
            )
    return session
