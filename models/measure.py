"""Measures a Profile: heads at batch 1, real requests through the codec, and tails on what is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..codec.image import decode_image, encode_image
from ..codec.nested import Quantised
from ..codec.requests import build_reply, build_request, read_exit_state
from ..codec.selection import kept_count
from ..codec.tokens import TokenCodec
from ..errors import DataError, UsageError, did_you_mean
from ..protos import splitpoint_pb2 as pb
from .card import ModelCard
from .data import Dataset, load_data
from .grid import Grid
from .measure_heads import Heads, measure_heads
from .preprocess import normalise
from .profile import Profile, SplitName
from .recursion import margin, prediction, running_logits
from .store import codec_arrays, load_network, resolve
from .vit import SplitViT

__all__ = ["images_id", "measure", "measure_file"]

_CODERS = {"packed": pb.CODER_PACKED, "ans": pb.CODER_ANS}

_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Bytes (B,), predictions and margins (B, exits beyond the cut)."""


def images_id(data: Dataset) -> str:
    """First 16 hex digits of SHA-256 over the images' shape and bytes and the labels."""
    digest = hashlib.sha256(repr(data.images.shape).encode())
    digest.update(np.ascontiguousarray(data.images).tobytes())
    digest.update(data.labels.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


class _Tail:
    """The server's half: requests are serialised, parsed, decoded and answered, a batch at a time."""

    def __init__(self, network: SplitViT, card: ModelCard, codec: TokenCodec) -> None:
        self.network, self.card, self.codec = network, card, codec

    def answer(
        self, cut: int, payloads: Sequence[pb.Tokens | pb.Image], states: Sequence[pb.ExitState | None]
    ) -> _Rows:
        nbytes, values, arrived_states = [], [], []
        for payload, state in zip(payloads, states, strict=True):
            request = build_request(
                model_id=self.card.id,
                request_id=1,
                cut=cut,
                deadline_s=1.0,
                exit_margin=2.0,
                payload=payload,
                exit_state=state,
            )
            nbytes.append(request.ByteSize())
            arrived = pb.InferRequest.FromString(request.SerializeToString())
            if cut:
                values.append(self.codec.decode(arrived.tokens, cut))
            else:
                values.append(decode_image(arrived.image, (*self.card.image_size, self.card.channels)))
            if state is not None:
                arrived_states.append(arrived.exit_state)
        return (np.array(nbytes), *self._run(cut, np.stack(values), arrived_states))

    @torch.inference_mode()
    def _run(
        self, cut: int, values: np.ndarray, states: Sequence[pb.ExitState]
    ) -> tuple[np.ndarray, np.ndarray]:
        network, card = self.network, self.card
        u, qbar = None, None
        if states:
            sizes = (card.exit_state_dim, card.class_count, len(card.exits))
            readings = [read_exit_state(state, *sizes) for state in states]
            u = torch.from_numpy(np.stack([reading.u for reading in readings]))
            qbar = np.stack([reading.logits for reading in readings])
        x = torch.from_numpy(values) if cut else network.embed(torch.from_numpy(normalise(values, card)))
        predictions, margins, at = [], [], cut
        for index in card.exits_within(cut, card.depth):
            x, _ = network.run(x, at, card.exits[index])
            at = card.exits[index]
            q, u = network.exit(x, index, u)
            qbar = running_logits(qbar, q.numpy())
            predictions.append(prediction(qbar))
            margins.append(margin(qbar))
        return np.stack(predictions, axis=1), np.stack(margins, axis=1)


def _answers(
    tail: _Tail, heads: Heads, data: Dataset, grid: Grid, coder: str, batch: int, bar: Progress
) -> dict[str, np.ndarray]:
    """The arrays of a Profile that have a grid axis."""
    card, samples, points = tail.card, len(data), grid.points()
    shape = (len(points), samples, len(card.exits))
    found: dict[str, np.ndarray] = {
        "tail_prediction": np.broadcast_to(prediction(heads.qbar).T.astype(np.uint16), shape).copy(),
        "tail_margin": np.broadcast_to(heads.margin.T, shape).copy(),
        "request_bytes": np.empty(shape[:2], np.int32),
        "tokens": np.empty(len(points), np.int32),
    }
    task = bar.add_task(f"{card.name}: tails", total=len(points))
    images = [encode_image(image) for image in data.images] if 0 in grid.cuts else []
    quantised: list[Quantised] = []
    quantised_for: tuple[int, float, int] | None = None
    for g, (cut, keep, dims, bits) in enumerate(points):
        found["tokens"][g] = 1 + (kept_count(card.patch_tokens, keep) if cut else card.patch_tokens)
        if cut and quantised_for != (cut, keep, dims):
            # Codes are nested: one quantisation serves every width.
            quantised_for = (cut, keep, dims)
            quantised = [
                tail.codec.quantised(heads.tokens[cut, s], heads.scores[cut, s], cut, keep, dims)[0]
                for s in range(samples)
            ]
        first = len(card.exits_within(0, cut))
        for start in range(0, samples, batch):
            part = range(start, min(start + batch, samples))
            payloads = [
                tail.codec.message(quantised[s], cut, bits, _CODERS[coder]) if cut else images[s]
                for s in part
            ]
            rows = tail.answer(cut, payloads, [heads.exit_state(cut, s) for s in part])
            here = slice(part.start, part.stop)
            found["request_bytes"][g, here], predictions, margins = rows
            found["tail_prediction"][g, here, first:] = predictions
            found["tail_margin"][g, here, first:] = margins
        bar.advance(task)
    return found


def measure(
    model: str | Path,
    data: Dataset,
    split_name: SplitName,
    *,
    grid: Grid | None = None,
    coder: str = "packed",
    batch: int = 64,
    progress: bool = True,
) -> Profile:
    """The Profile of a model on `data`, on one torch thread; `data` must fit the model's input.

    coder     "packed", or "ans" where the library and the model's tables are there
    progress  shows a bar on stderr

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
        task = bar.add_task(f"{card.name}: heads", total=len(data))
        heads = measure_heads(network, card, data, lambda: bar.advance(task))
        answers = _answers(_Tail(network, card, codec), heads, data, grid, coder, batch, bar)
    reply = build_reply(request_id=1, prediction=0, margin=0.0, exit=0, server_s=0.0, load=0.0)
    return Profile(
        card=card,
        split_name=split_name,
        coder=coder,
        tables_crc=codec.tables_crc if coder == "ans" else 0,
        grid=grid,
        labels=data.labels,
        images_id=images_id(data),
        head_prediction=prediction(heads.qbar).T.astype(np.uint16),
        head_margin=heads.margin.T.copy(),
        reply_bytes=reply.ByteSize(),
        block_time_s=np.median(heads.block_s, axis=0),
        exit_time_s=np.median(heads.exit_s, axis=0),
        **answers,
    )


def _check_writable(path: Path) -> None:
    probe = path.with_name(path.name + ".part")
    try:
        probe.open("ab").close()
        probe.unlink()
    except OSError as error:
        raise DataError(f"cannot write the profile {path}: {error.strerror or error}") from error


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
) -> Path:
    """Measure a Profile and save it; returns the path.

    out                the file, or a folder for NAME.SPLIT.npz; by default that name beside the model
    keeps, dims, bits  axes of the grid, each `Grid.default`'s where not given; all cuts are measured

    What is wrong with the grid (UsageError) or the place (DataError) is said before anything is measured.
    """
    path = resolve(model)
    _, card = load_network(path)
    grid = Grid.chosen(card, keeps, dims, bits)
    name = f"{path.stem}.{split_name}.npz"
    out = path.with_name(name) if out is None else out / name if out.is_dir() else out
    _check_writable(out)
    loaded = load_data(data, split_name, card=card, data_dir=data_dir)
    measure(path, loaded, split_name, grid=grid, coder=coder).save(out)
    return out
