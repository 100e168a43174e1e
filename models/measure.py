"""Measures a Profile: heads at batch 1, real requests through the codec, and tails on what is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..codec.image import LOSSLESS, encode_image, parse_image_format
from ..codec.requests import build_reply
from ..codec.tokens import TokenCodec
from ..errors import DataError, UsageError, did_you_mean
from ..protos import splitpoint_pb2 as pb
from ..whole_file import check_writable
from .data import Dataset, load_data
from .grid import Grid
from .measure_answers import answer_points, answer_refinements, no_answers, no_refinements
from .measure_heads import Heads, measure_heads
from .measure_tails import Tail
from .profile import Profile, SplitName
from .recursion import prediction
from .store import codec_arrays, load_network, resolve

__all__ = ["images_id", "measure", "measure_file"]

_CODERS = {"packed": pb.CODER_PACKED, "ans": pb.CODER_ANS}


def images_id(data: Dataset) -> str:
    """First 16 hex digits of SHA-256 over the images' shape and bytes and the labels."""
    digest = hashlib.sha256(repr(data.images.shape).encode())
    digest.update(np.ascontiguousarray(data.images).tobytes())
    digest.update(data.labels.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def measure(
    model: str | Path,
    data: Dataset,
    split_name: SplitName,
    *,
    grid: Grid | None = None,
    coder: str = "packed",
    image_format: str = LOSSLESS,
    batch: int = 64,
    progress: bool = True,
    rescored: Callable[[Heads], None] | None = None,
) -> Profile:
    """The Profile of a model on `data`, on one torch thread; `data` must fit the model's input.

    coder     "packed", or "ans" where the library and the model's tables are there
    image_format  how raw inputs are sent: "png", "webp:QUALITY" or "jpeg:QUALITY"
    progress  shows a bar on stderr
    rescored  changes the scores by which patches are selected, for comparisons; not for networks with gates

    Raises UsageError for an unknown coder or a grid that does not fit, DataError for another format and for images
    that do not fit.
    """
    torch.set_num_threads(1)
    network, card = load_network(model)
    codec = TokenCodec(codec_arrays(resolve(model)), dim=card.dim, max_tokens=card.patch_tokens + 1)
    grid = grid or Grid.default(card)
    grid.check(card)
    if coder not in _CODERS:
        raise UsageError(f"unknown coder '{coder}'; {did_you_mean(coder, _CODERS)}")
    if any(cut and _CODERS[coder] not in codec.coders(cut) for cut in grid.cuts):
        raise UsageError(f"coder '{coder}' needs the library constriction and a model with tables")
    sent_as = parse_image_format(image_format)
    expected = (*card.image_size, card.channels)
    if data.images.shape[1:] != expected:
        raise DataError(f"the images are {data.images.shape[1:]}, {card.name} takes {expected}")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        # Gates drop patches on the device, so that its own answers depend on keep; 1 is the plain network.
        keeps = tuple(dict.fromkeys((1.0, *grid.keeps))) if card.gates else (1.0,)
        task = bar.add_task(f"{card.name}: heads", total=len(data) * len(keeps))
        images = [encode_image(pixels, *sent_as) for pixels in data.images] if 0 in grid.cuts else []
        points = list(enumerate(grid.points()))
        refinements = grid.refinements(card)
        found = no_answers(grid, len(data), card)
        refined = no_refinements(len(refinements), len(data), card)
        tails = bar.add_task(f"{card.name}: tails", total=len(points) + len(refinements))
        tail, tick = Tail(network, card, codec), partial(bar.advance, tails)
        for keep in keeps:
            heads = measure_heads(network, card, data, lambda: bar.advance(task), keep)
            if rescored is not None:
                rescored(heads)
            if keep == 1.0:
                plain: dict[str, Any] = {
                    "head_prediction": prediction(heads.qbar).T.astype(np.uint16),
                    "head_margin": heads.margin.T.copy(),
                    "block_time_s": np.median(heads.block_s, axis=0),
                    "exit_time_s": np.median(heads.exit_s, axis=0),
                }
            chosen = [point for point in points if not card.gates or point[1][1] == keep]
            answer_points(found, chosen, tail, heads, images, _CODERS[coder], batch, tick)
            answer_refinements(refined, refinements, tail, heads, _CODERS[coder], batch, tick)
            if card.gates and keep in grid.keeps:
                place = grid.keeps.index(keep)
                found["gated_prediction"][place] = prediction(heads.qbar).T
                found["gated_margin"][place] = heads.margin.T
            del heads  # with all tokens of all samples: not twice in memory
    reply = build_reply(request_id=1, prediction=0, margin=0.0, exit=0, server_s=0.0, load=0.0)
    return Profile(
        card=card,
        split_name=split_name,
        coder=coder,
        image_format=image_format if 0 in grid.cuts else LOSSLESS,
        tables_crc=codec.tables_crc if coder == "ans" else 0,
        grid=grid,
        labels=data.labels,
        images_id=images_id(data),
        reply_bytes=reply.ByteSize(),
        **plain,
        **found,
        refined=refined if refinements else None,
    )


def measure_file(
    model: str | Path,
    split_name: SplitName,
    data: str | Path,
    *,
    data_dir: Path | None = None,
    out: Path | None = None,
    keeps: Sequence[float] | None = None,
    dims: Sequence[int] | None = None,
    bits: Sequence[int] | None = None,
    refine_keeps: Sequence[float] | None = None,
    coder: str = "packed",
    image_format: str = LOSSLESS,
    samples: int | None = None,
) -> Path:
    """Measure a Profile and save it; returns the path.

    out                the file, or a folder for NAME.SPLIT.npz; by default that name beside the model
    keeps, dims, bits  axes of the grid, each `Grid.default`'s where not given; all cuts are measured
    refine_keeps       what keeps below them are refined to; default none
    coder, image_format  as of `measure`
    samples            so many of the split (`Dataset.some`); default all

    What is wrong with the grid (UsageError) or the place (DataError) is said before anything is measured, and so are
    images that the other split's profile was measured on: what is chosen by one is judged by the other (DataError).
    """
    path = resolve(model)
    _, card = load_network(path)
    grid = Grid.chosen(card, keeps, dims, bits, refine_keeps)
    name = f"{path.stem}.{split_name}.npz"
    out = path.with_name(name) if out is None else out / name if out.is_dir() else out
    parse_image_format(image_format)
    check_writable(out, "profile", make_folder=False)
    loaded = load_data(data, split_name, card=card, data_dir=data_dir)
    loaded = loaded.some(samples or len(loaded))
    other = out.with_name(f"{path.stem}.{'evaluation' if split_name == 'calibration' else 'calibration'}.npz")
    if other.is_file() and Profile.load(other).images_id == images_id(loaded):
        raise DataError(
            f"{other} was measured on the same images: give the {split_name} profile others, or remove that one"
        )
    measure(path, loaded, split_name, grid=grid, coder=coder, image_format=image_format).save(out)
    return out
