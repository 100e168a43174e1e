"""What a Profile says of a network's answers: of every point of its grid, and of every refinement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..codec.nested import Quantised
from ..protos import splitpoint_pb2 as pb
from .card import ModelCard
from .grid import Grid
from .measure_heads import Heads
from .measure_tails import Tail
from .profile import Refined
from .recursion import prediction

__all__ = ["answer_points", "answer_refinements", "no_answers", "no_refinements"]


def answer_points(
    found: dict[str, np.ndarray],
    chosen: Sequence[tuple[int, tuple[int, float, int, int]]],
    tail: Tail,
    heads: Heads,
    images: Sequence[pb.Image],
    coder: pb.Coder.ValueType,
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
                tail.codec.message(quantised[s], cut, bits, coder) if cut else images[s] for s in part
            ]
            rows = tail.answer(cut, payloads, [heads.exit_state(cut, s) for s in part])
            found["request_bytes"][g, part], predictions, margins = rows
            found["tail_prediction"][g, part, first:] = predictions
            found["tail_margin"][g, part, first:] = margins
        tick()


def answer_refinements(
    found: Refined,
    points: Sequence[tuple[int, float, float, int, int]],
    tail: Tail,
    heads: Heads,
    coder: pb.Coder.ValueType,
    batch: int,
    tick: Callable[[], None],
) -> None:
    """Fill in the grid's refinements; networks with gates have none."""
    codec, samples = tail.codec, heads.block_s.shape[0]
    for r, (cut, keep, refine_keep, dims, bits) in enumerate(points):
        found.prediction[r], found.margin[r] = prediction(heads.qbar).T, heads.margin.T
        first, tokens, scores = len(tail.card.exits_within(0, cut)), heads.tokens[cut], heads.scores[cut]
        for start in range(0, samples, batch):
            part = range(start, min(samples, start + batch))
            sent = [codec.encode(tokens[s], scores[s], cut, keep, dims, bits, coder)[0] for s in part]
            further = [
                codec.further(tokens[s], scores[s], cut, keep, refine_keep, dims, bits, coder) for s in part
            ]
            rows = tail.answer(cut, sent, [heads.exit_state(cut, s) for s in part], further)
            here = slice(part.start, part.stop)
            found.nbytes[r, here], found.prediction[r, here, first:], found.margin[r, here, first:] = rows
            # A rest token goes when all that it stood for have come.
            found.tokens[r, here] = sent[0].count + further[0].count - (sent[0].rest == further[0].count)
        tick()


def _parts(counts: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Batches of samples, by index, that have as many tokens."""
    for count in np.unique(counts):
        here = np.flatnonzero(counts == count)
        for start in range(0, len(here), batch):
            yield here[start : start + batch]


def no_answers(grid: Grid, samples: int, card: ModelCard) -> dict[str, np.ndarray]:
    """The arrays of a Profile with an axis of grid points or keeps, not yet filled in."""
    exits, points = len(card.exits), len(grid.points())
    shapes: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "tail_prediction": ((points, samples, exits), np.uint16),
        "tail_margin": ((points, samples, exits), np.float32),
        "request_bytes": ((points, samples), np.int32),
        "tokens": ((points, samples), np.int32),
    }
    if card.gates:
        shapes["gated_prediction"] = ((len(grid.keeps), samples, exits), np.uint16)
        shapes["gated_margin"] = ((len(grid.keeps), samples, exits), np.float32)
    return {name: np.empty(shape, kind) for name, (shape, kind) in shapes.items()}


def no_refinements(refinements: int, samples: int, card: ModelCard) -> Refined:
    """The arrays of a Profile's refinements, not yet filled in."""
    rows, every = (refinements, samples), (refinements, samples, len(card.exits))
    return Refined(
        prediction=np.empty(every, np.uint16),
        margin=np.empty(every, np.float32),
        nbytes=np.empty(rows, np.int32),
        tokens=np.empty(rows, np.int32),
    )
