"""The file of a trained policy: safetensors with a small network, and a JSON card that says how to use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import DataError, UsageError
from ..models.card import card_problem
from ..whole_file import whole_file
from .decision import Decision
from .features import FEATURES
from .memory import MEMORY

__all__ = ["TrainedCard", "TrainedNetwork", "load_trained", "save_trained"]


class TrainedCard(BaseModel):
    """How a network's numbers become a Decision.

    observation   names of the inputs, in order: features of the Observation, memory, one price a budget
    mean, scale   the input is (x - mean) / scale, clipped to +-10
    decisions     what each output stands for, where an action is one of a list
    axes          else the levels of each field; the outputs are those of all axes, one after the other
    model_id      of the network whose calibration profile it was trained on
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    algorithm: str
    environment: str
    scenario: str
    seed: int
    steps: int
    model_id: str
    depth: int
    deadline_s: float = Field(gt=0)
    battery_j: float | None = None
    budgets: tuple[str, ...] = ()
    observation: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    layers: int = Field(ge=1)
    decisions: tuple[dict[str, float], ...] = ()
    axes: dict[str, tuple[float, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> TrainedCard:
        names = (*(f.name for f in FEATURES), *MEMORY, *(f"price_{name}" for name in self.budgets))
        if self.observation != names:
            raise ValueError(f"observation is {self.observation}, and this version gives {names}")
        if not len(self.mean) == len(self.scale) == len(names):
            raise ValueError("mean and scale need one number for each input")
        if bool(self.decisions) == bool(self.axes):
            raise ValueError("either decisions or axes say what the outputs stand for")
        return self

    def decision(self, levels: list[int]) -> Decision:
        """The Decision of one level an axis, or of one index of the list."""
        values: dict[str, Any]
        if self.decisions:
            values = dict(self.decisions[levels[0]])
        else:
            values = {
                name: axis[level] for (name, axis), level in zip(self.axes.items(), levels, strict=True)
            }
        values |= {name: int(values[name]) for name in ("split", "dims", "bits") if name in values}
        return Decision(**values)

    @property
    def outputs(self) -> list[int]:
        """Lengths of the axes."""
        return [len(self.decisions)] if self.decisions else [len(axis) for axis in self.axes.values()]


class TrainedNetwork:
    """A perceptron with tanh between its layers; weights (out, in), biases (out,)."""

    def __init__(self, card: TrainedCard, arrays: dict[str, NDArray[np.float32]]) -> None:
        self.card = card
        self._mean = np.array(card.mean, np.float32)
        self._scale = np.array(card.scale, np.float32)
        self._layers = [(arrays[f"weight.{i}"], arrays[f"bias.{i}"]) for i in range(card.layers)]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of all outputs, (..., inputs) -> (..., outputs); NaN counts as the mean."""
        x = np.clip(np.nan_to_num((x - self._mean) / self._scale), -10.0, 10.0)
        for place, (weight, bias) in enumerate(self._layers):
            x = x @ weight.T + bias
            if place < len(self._layers) - 1:
                x = np.tanh(x)
        return x


def save_trained(path: Path, card: TrainedCard, arrays: dict[str, NDArray[np.float32]]) -> None:
    """Write weight.0, bias.0, ... and the card. DataError where the file cannot be written."""
    from safetensors.numpy import save_file

    with whole_file(path, "policy") as partial:
        save_file(
            {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()},
            partial,
            {"card": card.model_dump_json()},
        )


def load_trained(path: Path) -> TrainedNetwork:
    """Read a file of `save_trained`. DataError that names the file where it is missing or is no trained policy."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if "card" not in metadata:
            raise DataError(f"{path} is no trained policy: there is no card in it")
        card = TrainedCard.model_validate(json.loads(metadata["card"]))
        network = TrainedNetwork(card, arrays)
        found = network(np.zeros(len(card.observation), np.float32)).shape
        # Every Decision of a list, every level of an axis.
        for index in range(max(card.outputs)):
            card.decision([min(index, levels - 1) for levels in card.outputs])
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read the policy {path}: {error}") from None
    except ValidationError as error:
        raise DataError(f"{path} is no trained policy of this version: {card_problem(error)}") from None
    except (LookupError, TypeError, ValueError, UsageError) as error:
        raise DataError(
            f"{path} is no trained policy of this version: {' '.join(str(error).split())[:200]}"
        ) from None
    if found != (sum(card.outputs),):
        raise DataError(f"{path}: the network has {found[0]} outputs, and its card says {sum(card.outputs)}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise DataError(f"{path}: the network's weights are no numbers: its training went astray")
    return network
