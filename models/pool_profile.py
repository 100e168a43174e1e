"""What the learners of a pool say of every sample at every gate, measured once. numpy alone.

Per sample and learner, not averages: which learners err together is what a quorum lives on. As with a Profile, a
calibration profile is what thresholds and QUEST may read, an evaluation profile is for engines and figures.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UsageError, did_you_mean
from ..whole_file import whole_file

__all__ = ["LEARNERS", "PoolProfile", "pool_path"]

LEARNERS = Path(__file__).parent / "weights" / "learners"
"""The learners that ship, their pools' profiles and ensembles."""

_FORMAT = 1


def pool_path(pool: str | Path, split: str) -> Path:
    """The profile of a split: of a named pool, or in the folder of one's own. UsageError for an unknown name."""
    folder, path = Path(pool), LEARNERS / f"{pool}.{split}.npz"
    if len(folder.parts) == 1 and path.is_file():
        return path
    if len(folder.parts) > 1 or folder.is_dir():
        return folder / f"pool.{split}.npz"
    names = {found.name.split(".")[0] for found in LEARNERS.glob("*.npz")}
    known = sorted(name for name in names if not (LEARNERS / f"{name}.safetensors").is_file())
    raise UsageError(f"unknown pool '{pool}'; {did_you_mean(str(pool), known)}")


@dataclass(frozen=True)
class PoolProfile:
    """Opinions of L learners on S samples at G gates.

    names, ids     of the learners, (L,)
    split          "calibration" or "evaluation"
    labels         int64 (S,)
    probabilities  float16 (L, S, G, C), opinions as they travel (`recursion.opinion`)
    gate_macs      int64 (L, G), MACs of the segment that ends in each gate
    gate_s         float64 (L, G), measured seconds of it at batch 1
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    split: Literal["calibration", "evaluation"]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float16]
    gate_macs: NDArray[np.int64]
    gate_s: NDArray[np.float64]

    def __post_init__(self) -> None:
        learners, samples, gates, _ = self.probabilities.shape
        shapes = len(self.ids), len(self.labels), self.gate_macs.shape, self.gate_s.shape
        if len(self.names) != learners or shapes != (learners, samples, (learners, gates), (learners, gates)):
            raise DataError("a pool's profile has arrays that do not fit each other")

    def __len__(self) -> int:
        return len(self.labels)

    def learner(self, name: str) -> int:
        """Index of a learner. UsageError, naming the nearest, where it is not in the pool."""
        if name not in self.names:
            raise UsageError(f"unknown learner '{name}'; {did_you_mean(name, self.names)}")
        return self.names.index(name)

    def require(self, split: str) -> None:
        """Raise UsageError unless this profile is of that split."""
        if self.split != split:
            raise UsageError(f"this is the pool's {self.split} profile, not its {split} profile")

    def save(self, path: Path | str) -> None:
        """Write one compressed npz file, whole or not at all. DataError if it cannot be written."""
        meta = {"format": _FORMAT, "names": self.names, "ids": self.ids, "split": self.split}
        with whole_file(Path(path), "profile") as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
                labels=self.labels.astype(np.uint16),
                probabilities=self.probabilities,
                gate_macs=self.gate_macs,
                gate_s=self.gate_s,
            )

    @classmethod
    def load(cls, path: Path | str) -> PoolProfile:
        """Read a file of `save`. DataError, naming the file, if it is missing or is no such profile."""
        try:
            with np.load(path, allow_pickle=False) as file:
                meta = json.loads(file["meta"].tobytes())
                if meta["format"] != _FORMAT:
                    raise DataError(f"{path} has format {meta['format']}, not {_FORMAT}: measure it anew")
                return cls(
                    names=tuple(meta["names"]),
                    ids=tuple(meta["ids"]),
                    split=meta["split"],
                    labels=file["labels"].astype(np.int64),
                    probabilities=file["probabilities"],
                    gate_macs=file["gate_macs"],
                    gate_s=file["gate_s"],
                )
        except OSError as error:
            raise DataError(f"cannot read the profile {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path} is no profile of a pool") from error
