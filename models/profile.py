"""The Profile: what a network answers, measured once for every sample and every point of a grid.

Per sample, not averages: how exits, compression and correctness go together is what policies live on. Margins
are stored, so thresholds stay continuous; cut, keep, dims and bits are a grid, and a Decision off it is an error
that names it. A calibration Profile is what policies may learn from; an evaluation Profile is for engines only.
numpy alone; `measure` makes Profiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codec.image import LOSSLESS
from ..errors import GridError, UsageError
from .card import ModelCard
from .grid import Grid

__all__ = ["Profile", "Refined", "SplitName"]

SplitName = Literal["calibration", "evaluation"]

_JOBS = {
    "calibration": "policies, thresholds and training read the calibration profile",
    "evaluation": "engines look answers up in the evaluation profile",
}


class Refined(NamedTuple):
    """What the server answers once further tokens have come.

    prediction  uint16 (R, S, E), margin float32 (R, S, E): as a Profile's tail_prediction and tail_margin
    nbytes      int32 (R, S), the serialised RefineRequest
    tokens      int32 (R, S), tokens of both messages
    """

    prediction: NDArray[np.uint16]
    margin: NDArray[np.float32]
    nbytes: NDArray[np.int32]
    tokens: NDArray[np.int32]


@dataclass(frozen=True)
class Profile:
    """Answers of one network on one split; S samples, E exits, G grid points.

    labels           int64 (S,)
    images_id        hash of the images and labels that were measured
    coder            "packed" or "ans": the coder of the requests
    image_format     how raw inputs were sent: "png", "webp:QUALITY" or "jpeg:QUALITY"
    tables_crc       of the entropy coder's tables that were used, 0 where planes are packed
    head_prediction  uint16 (S, E), head_margin float32 (S, E): nothing compressed or dropped, batch 1
    gated_prediction uint16 (K, S, E), gated_margin float32 (K, S, E): the head's at each of the grid's keeps, for
                     a network whose gates drop patches on the device; None for others. Read them by `head`
    tail_prediction  uint16 (G, S, E), tail_margin float32 (G, S, E): the server's; where an exit lies at or
                     before the cut, the head's
    request_bytes    int32 (G, S), the serialised InferRequest
    tokens           int32 (G, S), tokens that the server gets, CLS and rest token included
    refined          the grid's R refinements; None where it has none
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
    image_format: str = LOSSLESS
    gated_prediction: NDArray[np.uint16] | None = None
    gated_margin: NDArray[np.float32] | None = None
    refined: Refined | None = None

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

    @cached_property
    def _refinements(self) -> dict[tuple[int, float, float, int, int], int]:
        return {point: place for place, point in enumerate(self.grid.refinements(self.card))}

    def refinement(
        self, cut: int, keep: float, refine_keep: float, dims: int = 0, bits: int = 8
    ) -> tuple[Refined, int]:
        """The refinements, and the index of that of a grid point to `refine_keep`; dims 0 stands for all.

        GridError, naming what is off and the grid, when it was not measured.
        """
        self.config(cut, keep, dims, bits)
        found = self._refinements.get((cut, keep, refine_keep, dims or self.card.dim, bits))
        if found is None or self.refined is None:
            listed = ", ".join(f"{x:g}" for x in self.grid.refine_keeps) or "none"
            raise GridError(
                f"refine_keep {refine_keep:g} is not on the profile's grid: {listed}; measured by profile --refine-keep"
            )
        return self.refined, found

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

    def require(
        self, split_name: SplitName, coder: str | None = None, image_format: str | None = None
    ) -> None:
        """Raise UsageError unless this Profile is of that split, and was measured with that coder and image format."""
        if self.split_name != split_name:
            raise UsageError(
                f"this is the {self.split_name} profile of {self.card.name}: {_JOBS[split_name]}"
            )
        if coder is not None and self.coder != coder:
            raise self._measured_otherwise(f"coder '{self.coder}'", "coder", coder)
        if image_format is not None and 0 in self.cuts and self.image_format != image_format:
            raise self._measured_otherwise(
                f"raw inputs as '{self.image_format}'", "image-format", image_format
            )

    def _measured_otherwise(self, measured: str, option: str, wanted: str) -> UsageError:
        return UsageError(
            f"the {self.split_name} profile of {self.card.name} was measured with {measured}, not '{wanted}': "
            f"`splitpoint profile {self.card.name} --split {self.split_name} --{option} {wanted} --out FOLDER` "
            "measures another, for the scenario's `profiles`"
        )

    def save(self, path: Path | str) -> None:
        """Write one compressed npz file, whole or not at all. DataError if it cannot be written."""
        from .profile_file import write_profile

        write_profile(self, path)

    @classmethod
    def load(cls, path: Path | str) -> Profile:
        """Read a file of `save`. DataError, naming the file, if it is missing or is no Profile."""
        from .profile_file import read_profile

        return read_profile(path)
