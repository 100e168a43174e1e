"""The Profile: what a network answers, measured once for every sample and every point of a grid.

Per sample, not averages: how exits, compression and correctness go together is what policies live on. Margins
are stored, so thresholds stay continuous; cut, keep, dims and bits are a grid, and a Decision off it is an error
that names it. A calibration Profile is what policies may learn from; an evaluation Profile is for engines only.
numpy alone; `measure` makes Profiles.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, GridError, UsageError
from .card import ModelCard
from .grid import Grid

__all__ = ["Profile", "SplitName"]

SplitName = Literal["calibration", "evaluation"]

_FORMAT = 1
_JOBS = {
    "calibration": "policies, thresholds and training read the calibration profile",
    "evaluation": "engines look answers up in the evaluation profile",
}


@dataclass(frozen=True)
class Profile:
    """Answers of one network on one split; S samples, E exits, G grid points.

    labels           int64 (S,)
    images_id        hash of the images and labels that were measured
    coder            "packed" or "ans": the coder of the requests
    tables_crc       of the entropy coder's tables that were used, 0 where planes are packed
    head_prediction  uint16 (S, E), head_margin float32 (S, E): nothing compressed or dropped, batch 1
    gated_prediction uint16 (K, S, E), gated_margin float32 (K, S, E): the head's at each of the grid's keeps, for
                     a network whose gates drop patches on the device; None for others. Read them by `head`
    tail_prediction  uint16 (G, S, E), tail_margin float32 (G, S, E): the server's; where an exit lies at or
                     before the cut, the head's
    request_bytes    int32 (G, S), the serialised InferRequest
    tokens           int32 (G, S), tokens that the server gets, CLS included
    reply_bytes      the serialised InferReply, without a link report
    block_time_s     float64 (depth + 1,): measured seconds of embedding, then of each block, batch 1
    exit_time_s      float64 (E,): measured seconds of each exit, batch 1
    """

    card: ModelCard
    split_name: SplitName
    coder: str
    grid: Grid
    labels: NDArray[np.int64]
    images_id: str
    head_prediction: NDArray[np.uint16]
    head_margin: NDArray[np.float32]
    tail_prediction: NDArray[np.uint16]
    tail_margin: NDArray[np.float32]
    request_bytes: NDArray[np.int32]
    tokens: NDArray[np.int32]
    reply_bytes: int
    block_time_s: NDArray[np.float64]
    exit_time_s: NDArray[np.float64]
    tables_crc: int = 0
    gated_prediction: NDArray[np.uint16] | None = None
    gated_margin: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def cuts(self) -> tuple[int, ...]:
        return self.grid.cuts

    @property
    def keeps(self) -> tuple[float, ...]:
        return self.grid.keeps

    @property
    def dims(self) -> tuple[int, ...]:
        return self.grid.dims

    @property
    def bits(self) -> tuple[int, ...]:
        return self.grid.bits

    @cached_property
    def _index(self) -> dict[tuple[int, float, int, int], int]:
        index = {}
        for place, (cut, keep, dims, bits) in enumerate(self.grid.points()):
            index[(cut, keep, dims, bits)] = place
            if cut and dims == self.card.dim:
                index[(cut, keep, 0, bits)] = place
        return index

    def config(self, cut: int, keep: float = 1.0, dims: int = 0, bits: int = 8) -> int:
        """Index of a grid point; dims 0 stands for all. At cut 0 only the cut counts.

        GridError, naming what is off and the grid, when it was not measured.
        """
        found = self._index.get((cut, keep, dims, bits) if cut else (0, 1.0, 0, 8))
        if found is not None:
            return found
        asked: tuple[tuple[str, float, tuple[float, ...]], ...] = (
            ("split", cut, self.cuts),
            ("keep", keep, self.keeps),
            ("dims", dims or self.card.dim, self.dims),
            ("bits", bits, self.bits),
        )
        for name, value, known in asked:
            if value not in known:
                listed = ", ".join(f"{x:g}" for x in known)
                raise GridError(f"{name} {value:g} is not on the profile's grid: {listed}")
        raise GridError(
            f"(split {cut}, keep {keep:g}, dims {dims}, bits {bits}) is not on the profile's grid"
        )

    def head(self, keep: float = 1.0) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
        """Predictions and margins (S, E) of the exits on the device, for a Decision with this keep.

        It matters to networks with gates only. GridError for a keep that was not measured.
        """
        if self.gated_prediction is None or self.gated_margin is None or keep == 1.0:
            return self.head_prediction, self.head_margin
        if keep not in self.keeps:
            listed = ", ".join(f"{x:g}" for x in self.keeps)
            raise GridError(f"keep {keep:g} is not on the profile's grid: {listed}")
        place = self.keeps.index(keep)
        return self.gated_prediction[place], self.gated_margin[place]

    def require(self, split_name: SplitName, coder: str | None = None) -> None:
        """Raise UsageError unless this Profile is of that split, and was measured with that coder."""
        if self.split_name != split_name:
            raise UsageError(
                f"this is the {self.split_name} profile of {self.card.name}: {_JOBS[split_name]}"
            )
        if coder is not None and self.coder != coder:
            raise UsageError(
                f"the {self.split_name} profile of {self.card.name} was measured with coder "
                f"'{self.coder}', not '{coder}'"
            )

    def _repeated(self) -> NDArray[np.bool_]:
        """(G, 1, E): where the tail's values are the head's."""
        cuts = np.array([cut for cut, *_ in self.grid.points()])
        return (np.array(self.card.exits)[None, :] <= cuts[:, None])[:, None, :]

    def save(self, path: Path | str) -> None:
        """Write one compressed npz file, whole or not at all. DataError if it cannot be written."""
        from pydantic_core import to_json

        meta = {
            "format": _FORMAT,
            "card": self.card.model_dump(mode="json"),
            "split_name": self.split_name,
            "coder": self.coder,
            "tables_crc": self.tables_crc,
            "grid": {name: list(getattr(self.grid, name)) for name in ("cuts", "keeps", "dims", "bits")},
            "images_id": self.images_id,
            "reply_bytes": self.reply_bytes,
        }
        path = Path(path)
        partial = path.with_name(path.name + ".part")
        repeated = self._repeated()
        # What is repeated from the head is left out, and classes fit a byte where there are few: files ship.
        small = np.uint8 if self.card.class_count <= 256 else np.uint16
        gated: dict[str, Any] = {}
        if self.gated_prediction is not None and self.gated_margin is not None:
            gated = {
                "gated_prediction": self.gated_prediction.astype(small),
                "gated_margin": self.gated_margin,
            }
        try:
            with partial.open("wb") as file:
                np.savez_compressed(
                    file,
                    meta=np.frombuffer(to_json(meta), dtype=np.uint8),
                    labels=self.labels.astype(np.uint16),
                    head_prediction=self.head_prediction.astype(small),
                    head_margin=self.head_margin,
                    tail_prediction=np.where(repeated, 0, self.tail_prediction).astype(small),
                    tail_margin=self.tail_margin[np.broadcast_to(~repeated, self.tail_margin.shape)],
                    request_bytes=self.request_bytes,
                    tokens=self.tokens,
                    block_time_s=self.block_time_s,
                    exit_time_s=self.exit_time_s,
                    **gated,
                )
            os.replace(partial, path)
        except OSError as error:
            raise DataError(f"cannot write the profile {path}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path | str) -> Profile:
        """Read a file of `save`. DataError, naming the file, if it is missing or is no Profile."""
        from pydantic_core import from_json

        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays: dict[str, Any] = {name: file[name] for name in file.files}
            meta = from_json(arrays.pop("meta").tobytes())
            if meta["format"] != _FORMAT:
                raise DataError(
                    f"the profile {path} has format {meta['format']}, not {_FORMAT}: measure it anew"
                )
            card = ModelCard.model_validate(meta["card"])
            grid = Grid(**{name: tuple(values) for name, values in meta["grid"].items()})
            head_margin = arrays["head_margin"]
            shape = (len(grid.points()), *head_margin.shape)
            # One number a grid point where the network has no gates: all samples send as many.
            tokens = arrays["tokens"].reshape(shape[0], -1)
            gated = arrays.get("gated_prediction")
            profile = cls(
                card=card,
                split_name=meta["split_name"],
                coder=meta["coder"],
                tables_crc=meta.get("tables_crc", 0),
                grid=grid,
                labels=arrays["labels"].astype(np.int64),
                images_id=meta["images_id"],
                head_prediction=arrays["head_prediction"].astype(np.uint16),
                head_margin=head_margin,
                tail_prediction=arrays["tail_prediction"].astype(np.uint16),
                tail_margin=np.empty(shape, np.float32),
                request_bytes=arrays["request_bytes"],
                tokens=np.broadcast_to(tokens, shape[:2]).copy(),
                reply_bytes=int(meta["reply_bytes"]),
                block_time_s=arrays["block_time_s"],
                exit_time_s=arrays["exit_time_s"],
                gated_prediction=None if gated is None else gated.astype(np.uint16),
                gated_margin=arrays.get("gated_margin"),
            )
            repeated = profile._repeated()
            profile.tail_margin[~np.broadcast_to(repeated, shape)] = arrays["tail_margin"]
            for place, (_, keep, *_) in enumerate(grid.points()):
                prediction, margin = profile.head(keep)
                np.copyto(profile.tail_prediction[place], prediction, where=repeated[place])
                np.copyto(profile.tail_margin[place], margin, where=repeated[place])
        except OSError as error:
            raise DataError(f"cannot read the profile {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path} is not a profile") from error
        return profile
