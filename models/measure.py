"""Measures a Profile: the head at batch 1, real requests through the codec, and the tail on what it decodes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..codec.image import decode_image, encode_image
from ..codec.nested import Quantised
from ..codec.requests import build_reply, build_request, exit_state_message, read_exit_state
from ..codec.selection import kept_count
from ..codec.tokens import TokenCodec
from ..errors import DataError, UsageError
from ..protos import splitpoint_pb2 as pb
from .card import ModelCard
from .data import Dataset
from .preprocess import normalise
from .profile import Grid, Profile, SplitName
from .recursion import margin, prediction, running_logits
from .store import codec_arrays, load_network, resolve
from .vit import SplitViT

__all__ = ["images_id", "measure"]

_CODERS = {"packed": pb.CODER_PACKED, "ans": pb.CODER_ANS}


class _Heads:
    """What the device knows after each number of blocks, for all samples; nothing compressed."""

    def __init__(self, card: ModelCard, samples: int) -> None:
        exits, n = len(card.exits), card.patch_tokens
        self.tokens = np.empty((card.depth, samples, n + 1, card.dim), np.float32)
        self.scores = np.empty((card.depth, samples, n), np.float32)
        self.u = np.empty((exits, samples, card.exit_state_dim), np.float32)
        self.qbar = np.empty((exits, samples, card.class_count), np.float32)
        self.margin = np.empty((exits, samples), np.float32)
        self.block_s = np.empty((samples, card.depth + 1))
        self.exit_s = np.empty((samples, exits))


def images_id(data: Dataset) -> str:
    """First 16 hex digits of SHA-256 over the images' shape and bytes and the labels."""
    digest = hashlib.sha256(repr(data.images.shape).encode())
    digest.update(np.ascontiguousarray(data.images).tobytes())
    digest.update(data.labels.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def _run_heads(network: SplitViT, card: ModelCard, data: Dataset) -> Iterator[_Heads]:
    """Fills a _Heads sample by sample; yields it after each, for progress."""
    heads = _Heads(card, len(data))
    for sample, image in enumerate(data.images):
        began = time.perf_counter()
        x, u, qbar = network.embed(torch.from_numpy(normalise(image[None], card))), None, None
        heads.block_s[sample, 0] = time.perf_counter() - began
        for block in range(card.depth):
            began = time.perf_counter()
            x, scores = network.run(x, block, block + 1)
            heads.block_s[sample, block + 1] = time.perf_counter() - began
            if block + 1 < card.depth:
                heads.tokens[block + 1, sample], heads.scores[block + 1, sample] = x[0], scores[0]
            if block + 1 in card.exits:
                index = card.exits.index(block + 1)
                began = time.perf_counter()
                q, u = network.exit(x, index, u)
                heads.exit_s[sample, index] = time.perf_counter() - began
                qbar = running_logits(qbar, q[0].numpy())
                heads.u[index, sample], heads.qbar[index, sample] = u[0], qbar
                heads.margin[index, sample] = margin(qbar)
        yield heads


def _exit_state(card: ModelCard, heads: _Heads, cut: int, sample: int) -> pb.ExitState | None:
    passed = len(card.exits_within(0, cut))
    if not passed:
        return None
    last = passed - 1
    u, qbar = heads.u[last, sample], heads.qbar[last, sample]
    return exit_state_message(u, qbar, passed, float(heads.margin[last, sample]))


@torch.inference_mode()
def _run_tail(
    network: SplitViT, card: ModelCard, cut: int, values: np.ndarray, states: list[pb.ExitState | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and margins (B, E - passed) at the exits beyond the cut; values are tokens, pixels at cut 0."""
    u, qbar = None, None
    if states[0] is not None:
        sizes = (card.exit_state_dim, card.class_count, len(card.exits))
        readings = [read_exit_state(state, *sizes) for state in states if state is not None]
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


class _Point:
    """One grid point: serialises, parses and answers the requests of a batch of samples."""

    def __init__(self, network: SplitViT, card: ModelCard, codec: TokenCodec, cut: int) -> None:
        self.network, self.card, self.codec, self.cut = network, card, codec, cut

    def answer(
        self, payloads: list[pb.Tokens | pb.Image], states: list[pb.ExitState | None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bytes (B,), predictions and margins (B, exits beyond the cut)."""
        nbytes, values, read = [], [], []
        for payload, state in zip(payloads, states, strict=True):
            request = build_request(
                model_id=self.card.id,
                request_id=1,
                cut=self.cut,
                deadline_s=1.0,
                exit_margin=2.0,
                payload=payload,
                exit_state=state,
            )
            nbytes.append(request.ByteSize())
            arrived = pb.InferRequest.FromString(request.SerializeToString())
            if self.cut:
                values.append(self.codec.decode(arrived.tokens, self.cut))
            else:
                values.append(decode_image(arrived.image, (*self.card.image_size, self.card.channels)))
            read.append(arrived.exit_state if state is not None else None)
        predictions, margins = _run_tail(self.network, self.card, self.cut, np.stack(values), read)
        return np.array(nbytes), predictions, margins


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

    Raises UsageError for an unknown coder, DataError for data that does not fit.
    """
    torch.set_num_threads(1)
    network, card = load_network(model)
    codec = TokenCodec(codec_arrays(resolve(model)), dim=card.dim, max_tokens=card.patch_tokens + 1)
    if coder not in _CODERS:
        raise UsageError(f"unknown coder '{coder}'; known: {', '.join(sorted(_CODERS))}")
    if data.images.shape[1:] != (*card.image_size, card.channels):
        raise DataError(
            f"the images are {data.images.shape[1:]}, {card.name} takes {(*card.image_size, card.channels)}"
        )
    grid = grid or Grid.default(card)
    if any(coder == "ans" and cut and _CODERS[coder] not in codec.coders(cut) for cut in grid.cuts):
        raise UsageError(
            f"coder 'ans' needs the library constriction and a model with tables; {card.name} lacks one"
        )
    points, samples, exits = grid.points(), len(data), len(card.exits)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task(f"{card.name} {split_name}: heads", total=samples)
        for heads in _run_heads(network, card, data):
            bar.advance(task)
        head_prediction = prediction(heads.qbar).T.astype(np.uint16)
        tail_prediction = np.broadcast_to(head_prediction, (len(points), samples, exits)).copy()
        tail_margin = np.broadcast_to(heads.margin.T, (len(points), samples, exits)).copy()
        request_bytes = np.empty((len(points), samples), np.int32)
        tokens = np.empty(len(points), np.int32)
        task = bar.add_task(f"{card.name} {split_name}: tails", total=len(points))
        quantised: list[Quantised] = []
        quantised_for: tuple[int, float, int] | None = None
        for g, (cut, keep, dims, bits) in enumerate(points):
            point = _Point(network, card, codec, cut)
            first = len(card.exits_within(0, cut))
            tokens[g] = 1 + (kept_count(card.patch_tokens, keep) if cut else card.patch_tokens)
            if cut and quantised_for != (cut, keep, dims):
                # Codes are nested: one quantisation serves every width.
                quantised_for = (cut, keep, dims)
                quantised = [
                    codec.quantised(heads.tokens[cut, s], heads.scores[cut, s], cut, keep, dims)[0]
                    for s in range(samples)
                ]
            for start in range(0, samples, batch):
                part = range(start, min(start + batch, samples))
                payloads: list[pb.Tokens | pb.Image] = []
                for s in part:
                    if cut:
                        payloads.append(codec.message(quantised[s], cut, bits, _CODERS[coder]))
                    else:
                        payloads.append(encode_image(data.images[s]))
                states = [_exit_state(card, heads, cut, s) for s in part]
                here = slice(start, start + len(part))
                nbytes, predictions, margins = point.answer(payloads, states)
                request_bytes[g, here] = nbytes
                tail_prediction[g, here, first:] = predictions
                tail_margin[g, here, first:] = margins
            bar.advance(task)
    reply = build_reply(request_id=1, prediction=0, margin=0.0, exit=0, server_s=0.0, load=0.0)
    return Profile(
        card=card,
        split_name=split_name,
        coder=coder,
        grid=grid,
        labels=data.labels,
        images_id=images_id(data),
        head_prediction=head_prediction,
        head_margin=heads.margin.T.copy(),
        tail_prediction=tail_prediction,
        tail_margin=tail_margin,
        request_bytes=request_bytes,
        tokens=tokens,
        reply_bytes=reply.ByteSize(),
        block_time_s=np.median(heads.block_s, axis=0),
        exit_time_s=np.median(heads.exit_s, axis=0),
    )
