"""The file of a Profile: one compressed npz. What a tail repeats of the head is left out, for files ship."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from ..codec.image import LOSSLESS
from ..errors import DataError
from ..whole_file import whole_file
from .card import ModelCard
from .grid import Grid
from .profile import Profile, Refined

__all__ = ["read_profile", "write_profile"]

_FORMAT = 1
_AXES = ("cuts", "keeps", "dims", "bits", "refine_keeps")
_REFINED = "refined_"


def write_profile(profile: Profile, path: Path | str) -> None:
    """Write one compressed npz file, whole or not at all. DataError if it cannot be written."""
    meta = {
        "format": _FORMAT,
        "card": profile.card.model_dump(mode="json"),
        "split_name": profile.split_name,
        "coder": profile.coder,
        "image_format": profile.image_format,
        "tables_crc": profile.tables_crc,
        "grid": {name: list(getattr(profile.grid, name)) for name in _AXES},
        "images_id": profile.images_id,
        "reply_bytes": profile.reply_bytes,
    }
    repeated = _repeated(profile.card, profile.grid)
    # Classes fit a byte where there are few.
    small = np.uint8 if profile.card.class_count <= 256 else np.uint16
    optional: dict[str, Any] = {}
    if profile.refined is not None:
        optional = {_REFINED + name: values for name, values in profile.refined._asdict().items()}
    if profile.gated_prediction is not None and profile.gated_margin is not None:
        optional |= {
            "gated_prediction": profile.gated_prediction.astype(small),
            "gated_margin": profile.gated_margin,
        }
    with whole_file(Path(path), "profile", make_folder=False) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            meta=np.frombuffer(to_json(meta), dtype=np.uint8),
            labels=profile.labels.astype(np.uint16),
            head_prediction=profile.head_prediction.astype(small),
            head_margin=profile.head_margin,
            tail_prediction=np.where(repeated, 0, profile.tail_prediction).astype(small),
            tail_margin=profile.tail_margin[np.broadcast_to(~repeated, profile.tail_margin.shape)],
            request_bytes=profile.request_bytes,
            tokens=profile.tokens,
            block_time_s=profile.block_time_s,
            exit_time_s=profile.exit_time_s,
            **optional,
        )


def read_profile(path: Path | str) -> Profile:
    """Read a file of `write_profile`. DataError, naming the file, if it is missing or is no Profile."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {name: file[name] for name in file.files}
        meta = from_json(arrays.pop("meta").tobytes())
        if meta["format"] != _FORMAT:
            raise DataError(f"the profile {path} has format {meta['format']}, not {_FORMAT}: measure it anew")
        card = ModelCard.model_validate(meta["card"])
        grid = Grid(**{name: tuple(values) for name, values in meta["grid"].items()})
        head_margin = arrays["head_margin"]
        shape = (len(grid.points()), *head_margin.shape)
        gated = arrays.get("gated_prediction")
        profile = Profile(
            card=card,
            split_name=meta["split_name"],
            coder=meta["coder"],
            image_format=meta.get("image_format", LOSSLESS),
            tables_crc=meta["tables_crc"],
            grid=grid,
            labels=arrays["labels"].astype(np.int64),
            images_id=meta["images_id"],
            head_prediction=arrays["head_prediction"].astype(np.uint16),
            head_margin=head_margin,
            tail_prediction=arrays["tail_prediction"].astype(np.uint16),
            tail_margin=np.empty(shape, np.float32),
            request_bytes=arrays["request_bytes"],
            tokens=arrays["tokens"],
            reply_bytes=int(meta["reply_bytes"]),
            block_time_s=arrays["block_time_s"],
            exit_time_s=arrays["exit_time_s"],
            gated_prediction=None if gated is None else gated.astype(np.uint16),
            gated_margin=arrays.get("gated_margin"),
            refined=Refined(*(arrays[_REFINED + name] for name in Refined._fields))
            if grid.refine_keeps
            else None,
        )
        _check_shapes(profile)
        repeated = _repeated(card, grid)
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


def _check_shapes(profile: Profile) -> None:
    """ValueError unless there are as many values of everything as card, grid and labels say."""
    card, grid, rows = profile.card, profile.grid, len(profile)
    exits, points, refinements = len(card.exits), len(grid.points()), len(grid.refinements(card))
    found: list[tuple[NDArray[Any], tuple[int, ...]]] = [
        (profile.head_prediction, (rows, exits)),
        (profile.head_margin, (rows, exits)),
        (profile.tail_prediction, (points, rows, exits)),
        (profile.request_bytes, (points, rows)),
        (profile.tokens, (points, rows)),
        (profile.block_time_s, (card.depth + 1,)),
        (profile.exit_time_s, (exits,)),
    ]
    if profile.gated_prediction is not None and profile.gated_margin is not None:
        found += [
            (values, (len(grid.keeps), rows, exits))
            for values in (profile.gated_prediction, profile.gated_margin)
        ]
    if profile.refined is not None:
        every = refinements, rows, exits
        sizes = {"prediction": every, "margin": every, "nbytes": every[:2], "tokens": every[:2]}
        found += [(getattr(profile.refined, name), size) for name, size in sizes.items()]
    if any(values.shape != shape for values, shape in found):
        raise ValueError("shapes")


def _repeated(card: ModelCard, grid: Grid) -> NDArray[np.bool_]:
    """(G, 1, E): where the tail's values are the head's."""
    cuts = np.array([cut for cut, *_ in grid.points()])
    return (np.array(card.exits)[None, :] <= cuts[:, None])[:, None, :]
