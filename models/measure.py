"""Measures a Profile: heads at batch 1, real requests through the codec, and tails on what is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..codec.image import encode_image
from ..codec.nested import Quantised
from ..codec.requests import build_reply
from ..codec.tokens import TokenCodec
from ..errors import DataError, UsageError, did_you_mean
from ..protos import splitpoint_pb2 as pb
from ..whole_file import check_writable
from .card import ModelCard
from .data import Dataset, load_data
from .grid import Grid
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


def _answers(
    found: dict[str, np.ndarray],
    chosen: Sequence[tuple[int, tuple[int, float, int, int]]],
    tail: Tail,
    heads: Heads,
    images: Sequence[pb.Image],
    coder: str,
    batch: int,
    tick: Callable[[], None],
) -> None:
    """Fill in the chosen grid points of a Profile's arrays, each given by its place and what it is."""
    card, samples = tail.card, heads.block_s.shape[0]
    quantised: list[Quantised] = []
    quantised_for: tuple[int, float, int] | None = None
    for g, (cut, keep, dims, bits) in chosen:
        found["tail_prediction"][g], found["tail_margin"][g] = prediction(heads.qbar).T, heads.margin.T
        if cut and quantised_for != (cut, keep, dims):
            # Codes are nested: one quantisation serves every width.
            quantised_for = (cut, keep, dims)
            left = 1.0 if heads.gated else keep
            quantised = [
                tail.codec.quantised(heads.tokens[cut][s], heads.scores[cut][s], cut, left, dims)[0]
                for s in range(samples)
            ]
        counts = [len(q.codes) for q in quantised] if cut else [card.patch_tokens + 1] * samples
        found["tokens"][g] = counts
        first = len(card.exits_within(0, cut))
        for part in _parts(np.array(counts), batch):
            payloads = [
                tail.codec.message(quantised[s], cut, bits, _CODERS[coder]) if cut else images[s]
                for s in part
            ]
            rows = tail.answer(cut, payloads, [heads.exit_state(cut, s) for s in part])
            found["request_bytes"][g, part], predictions, margins = rows
            found["tail_prediction"][g, part, first:] = predictions
            found["tail_margin"][g, part, first:] = margins
        tick()


def _parts(counts: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Batches of samples, by index, that have as many tokens."""
    for count in np.unique(counts):
        here = np.flatnonzero(counts == count)
        for start in range(0, len(here), batch):
            yield here[start : start + batch]


def _empty(points: int, samples: int, card: ModelCard, keeps: Sequence[float]) -> dict[str, np.ndarray]:
    """The arrays of a Profile with an axis of grid points or keeps, not yet filled in."""
    exits = len(card.exits)
    shapes: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "tail_prediction": ((points, samples, exits), np.uint16),
        "tail_margin": ((points, samples, exits), np.float32),
        "request_bytes": ((points, samples), np.int32),
        "tokens": ((points, samples), np.int32),
    }
    if card.gates:
        shapes["gated_prediction"] = ((len(keeps), samples, exits), np.uint16)
        shapes["gated_margin"] = ((len(keeps), samples, exits), np.float32)
    return {name: np.empty(shape, kind) for name, (shape, kind) in shapes.items()}


def measure(
    model: str | Path,
    data: Dataset,
    split_name: SplitName,
    *,
    grid: Grid | None = None,
    coder: str = "packed",
    batch: int = 64,
    progress: bool = True,
    rescored: Callable[[Heads], None] | None = None,
) -> Profile:
    """The Profile of a model on `data`, on one torch thread; `data` must fit the model's input.

    coder     "packed", or "ans" where the library and the model's tables are there
    progress  shows a bar on stderr
    rescored  changes the scores by which patches are selected, for comparisons; not for networks with gates

    Raises UsageError for an unknown coder or a grid that does not fit, DataError for images that do not.
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
    expected = (*card.image_size, card.channels)
    if data.images.shape[1:] != expected:
        raise DataError(f"the images are {data.images.shape[1:]}, {card.name} takes {expected}")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        # Gates drop patches on the device, so that its own answers depend on keep; 1 is the plain network.
        keeps = tuple(dict.fromkeys((1.0, *grid.keeps))) if card.gates else (1.0,)
        task = bar.add_task(f"{card.name}: heads", total=len(data) * len(keeps))
        images = [encode_image(image) for image in data.images] if 0 in grid.cuts else []
        points = list(enumerate(grid.points()))
        found = _empty(len(points), len(data), card, grid.keeps)
        tails = bar.add_task(f"{card.name}: tails", total=len(points))
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
            tail = Tail(network, card, codec)
            _answers(found, chosen, tail, heads, images, coder, batch, lambda: bar.advance(tails))
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
        tables_crc=codec.tables_crc if coder == "ans" else 0,
        grid=grid,
        labels=data.labels,
        images_id=images_id(data),
        reply_bytes=reply.ByteSize(),
        **plain,
        **found,
    )


def measure_file(
    model: str | Path,
    split_name: SplitName,
    data: str | Path = "clutter",
    *,
    data_dir: Path | None = None,
    out: Path | None = None,
    keeps: Sequence[float] | None = None,
    dims: Sequence[int] | None = None,
    bits: Sequence[int] | None = None,
    coder: str = "packed",
    samples: int | None = None,
) -> Path:
    """Measure a Profile and save it; returns the path.

    out                the file, or a folder for NAME.SPLIT.npz; by default that name beside the model
    keeps, dims, bits  axes of the grid, each `Grid.default`'s where not given; all cuts are measured
    samples            so many of the split (`Dataset.spread`); default all

    What is wrong with the grid (UsageError) or the place (DataError) is said before anything is measured, and so are
    images that the other split's profile was measured on: what is chosen by one is judged by the other (DataError).
    """
    path = resolve(model)
    _, card = load_network(path)
    grid = Grid.chosen(card, keeps, dims, bits)
    name = f"{path.stem}.{split_name}.npz"
    out = path.with_name(name) if out is None else out / name if out.is_dir() else out
    check_writable(out, "profile", make_folder=False)
    loaded = load_data(data, split_name, card=card, data_dir=data_dir)
    loaded = loaded.spread(samples or len(loaded))
    other = out.with_name(f"{path.stem}.{'evaluation' if split_name == 'calibration' else 'calibration'}.npz")
    if other.is_file() and Profile.load(other).images_id == images_id(loaded):
        raise DataError(
            f"{other} was measured on the same images: give the {split_name} profile others, or remove that one"
        )
    measure(path, loaded, split_name, grid=grid, coder=coder).save(out)
    return out
