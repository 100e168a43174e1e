"""How one half of a network is trained, and its checkpoints: safetensors, so that nothing has to be unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import DataError
from .optimizers import rate_factor
from .split_halves import read_tensors, save_tensors

__all__ = ["HalfOptimizer", "read_checkpoint"]

_MOMENTS = "optimizer."


class HalfOptimizer:
    """AdamW over one half and its side of the compression; matrices shrink, vectors do not.

    steps, peak  length of the schedule (`optimizers.rate_factor`) and its highest rate
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float, steps: int, peak: float) -> None:
        self._parameters = list(parameters)
        self._steps, self._peak = steps, peak
        shrunk = [p for p in self._parameters if p.ndim > 1]
        rest = [p for p in self._parameters if p.ndim <= 1]
        groups = [{"params": shrunk, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
        self._adamw = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), fused=True)

    def take(self, step: int) -> None:
        """Clip this half's gradient to norm 1, apply it as step number `step` (from 0), and forget it."""
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for group in self._adamw.param_groups:
            group["lr"] = self._peak * rate_factor(min(step, self._steps), self._steps)
        self._adamw.step()
        self.forget()

    def forget(self) -> None:
        """Drop the gradient."""
        self._adamw.zero_grad(set_to_none=True)

    def save(self, path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, object]) -> None:
        """Write `state` (weights), AdamW's moments and `metadata`. DataError where that fails."""
        tensors = dict(state)
        for index, moments in self._adamw.state_dict()["state"].items():
            tensors |= {f"{_MOMENTS}{index}.{name}": torch.as_tensor(v) for name, v in moments.items()}
        save_tensors(path, tensors, {"checkpoint": json.dumps(metadata)})

    def restore(self, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Go on with the moments of `read_checkpoint`."""
        state = self._adamw.state_dict()
        state["state"] = {index: dict(values) for index, values in moments.items()}
        self._adamw.load_state_dict(state)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]], dict[str, object]]:
    """(weights, AdamW's moments by parameter, metadata) of `HalfOptimizer.save`. DataError if it is broken."""
    tensors, metadata = read_tensors(path)
    moments: dict[int, dict[str, Tensor]] = {}
    state: dict[str, Tensor] = {}
    try:
        for name, value in tensors.items():
            if name.startswith(_MOMENTS):
                index, key = name.removeprefix(_MOMENTS).split(".")
                moments.setdefault(int(index), {})[key] = value
            else:
                state[name] = value
        return state, moments, dict(json.loads(metadata["checkpoint"]))
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} is not a checkpoint of split learning") from error
