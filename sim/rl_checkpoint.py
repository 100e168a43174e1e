"""The checkpoint of a policy's training: NAME.checkpoint.zip beside the policy's file, and NAME.checkpoint.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from ..errors import DataError
from ..whole_file import check_writable

__all__ = ["PolicyCheckpoint"]


class PolicyCheckpoint:
    """about: JSON that is equal for trainings that lead to the same policy, but for how long they last.

    Makes the folder of `out`. DataError where no file can be written there.
    """

    def __init__(self, out: Path, about: dict[str, Any]) -> None:
        self.path = out.with_suffix(".checkpoint.zip")
        self._said = out.with_suffix(".checkpoint.json")
        self._about = json.loads(json.dumps(about))
        if out.is_dir():
            raise DataError(f"cannot write the policy {out}: it is a folder; name a file in it")
        check_writable(out, "policy")

    def resume(self, model: BaseAlgorithm) -> bool:
        """Let `model` go on from what was written last; False where there is nothing.

        DataError for the checkpoint of another training, and for one that is broken.
        """
        if not (self.path.exists() and self._said.exists()):
            return False
        try:
            said = json.loads(self._said.read_text("utf-8"))
            steps = said.pop("steps", 0)
            if said == self._about:
                model.set_parameters(str(self.path))
        except Exception as error:  # zip, pickle, torch and SB3 raise half a dozen kinds here
            raise DataError(f"cannot read {self.path}; remove it to train anew") from error
        if said != self._about:
            raise DataError(f"{self.path} is of another training: give another --out, or --no-resume")
        model.num_timesteps = steps
        return True

    def write(self, model: BaseAlgorithm) -> None:
        """Each file whole or not at all. DataError where that fails."""
        parts = self.path.with_suffix(".part.zip"), self._said.with_suffix(".part.json")
        try:
            model.save(parts[0])
            parts[1].write_text(json.dumps({**self._about, "steps": model.num_timesteps}), "utf-8")
            for part, path in zip(parts, (self.path, self._said), strict=True):
                os.replace(part, path)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}") from error
