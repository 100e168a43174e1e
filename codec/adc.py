"""ADC, attention-based double compression: merge alike samples of a batch, then drop tokens.

Source: arXiv 2509.15058. With a_b the mean over heads of the CLS row of the last block's attention,

    1) k-means on {a_b}: T = max(2, floor(rho_B * B)) clusters; a cluster's activation is its samples' mean
    2) of each, CLS and the k - 1 tokens with the most mean attention, k = max(1, floor(rho_T * n))

where n counts all tokens, CLS included, so that rho_T = 1 drops nothing. The rate is xi = (T / B) (k / n),
by default rho_B = rho_T = sqrt(xi). Ours, where the abstract is silent: k-means++ seeding from a keyed
generator, a cluster that would be empty takes the worst-fitting sample, kept tokens stay in ascending
position, T never exceeds B, and T = B leaves every sample alone. The group of each sample travels as one byte
(`AdcGroups`), so that `merge` makes at most 256; every sample of a cluster gets the cluster's answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from ..errors import UsageError
from ..protos import splitpoint_pb2 as pb
from ..seeding import generator
from .errors import PayloadError
from .selection import kept_count

__all__ = [
    "MOST_GROUPS",
    "Merged",
    "Selection",
    "group_count",
    "groups_message",
    "merge",
    "merged_shape",
    "ratios",
    "select",
    "unmerge",
]

MOST_GROUPS = 64
"""Of a message to Infer: each is a sample in the server's queue."""

_MOST_NAMED = 256
"""Groups that one byte can tell apart."""

_EVERY_GROUP = bytes(range(_MOST_NAMED))

_Answer = TypeVar("_Answer")
_ROUNDS = 100


class Selection(NamedTuple):
    """Which samples are merged and which tokens stay: what a device decides from the attention alone.

    kept        int64 (T, k), positions of the tokens in the sequence, 0 (CLS) first, ascending
    assignment  int64 (B,), cluster of each sample; every cluster in 0..T-1 has one at least
    """

    kept: np.ndarray
    assignment: np.ndarray


class Merged(NamedTuple):
    """A compressed batch.

    tokens      float32 (T, k, d), CLS first
    kept        int64 (T, k), positions of the tokens in the sequence, 0 (CLS) first, ascending
    assignment  int64 (B,), cluster of each sample; every cluster in 0..T-1 has one at least
    rate        T k / (B n), as it came out
    """

    tokens: np.ndarray
    kept: np.ndarray
    assignment: np.ndarray
    rate: float


def ratios(rate: float, rho_batch: float = 0.0) -> tuple[float, float]:
    """(rho_B, rho_T) for a wanted rate xi in (0, 1]: sqrt(xi) each, or a rho_B in [xi, 1] of one's own."""
    if not 0.0 < rate <= 1.0:
        raise UsageError(f"rate must be in (0, 1], not {rate!r}")
    if not rho_batch:
        return math.sqrt(rate), math.sqrt(rate)
    if not rate <= rho_batch <= 1.0:
        raise UsageError(f"rho_batch must be 0 or in {rate:g}..1, not {rho_batch!r}")
    return rho_batch, rate / rho_batch


def merged_shape(batch: int, tokens: int, rho_batch: float, rho_tokens: float) -> tuple[int, int]:
    """(T, k): clusters of `batch` samples, and tokens of `tokens` (CLS included) that each one keeps."""
    for name, rho in (("rho_batch", rho_batch), ("rho_tokens", rho_tokens)):
        if not 0.0 < rho <= 1.0:
            raise UsageError(f"{name} must be in (0, 1], not {rho!r}")
    return min(batch, max(2, kept_count(batch, rho_batch))), kept_count(tokens, rho_tokens)


def select(
    attention: np.ndarray,
    rho_batch: float,
    rho_tokens: float,
    *,
    seed: int,
    key: int = 0,
    most: int | None = None,
) -> Selection:
    """Cluster a batch by its attention, and choose each cluster's tokens.

    attention   float32 (B, n-1), attention from CLS to the patches, mean over heads
    seed, key   of the k-means seeding: equal ones give equal clusters
    most        clusters at most; None: no limit but B

    Raises PayloadError for an empty batch or values that are not finite, UsageError for ratios out of (0, 1].
    """
    if attention.ndim != 2 or not attention.size:
        raise PayloadError("attention", f"must have shape (B, n-1), not {attention.shape}")
    if not np.isfinite(attention).all():
        raise PayloadError("attention", "must be finite")
    batch, patches = attention.shape
    clusters, length = merged_shape(batch, patches + 1, rho_batch, rho_tokens)
    clusters = clusters if most is None else min(clusters, most)
    assignment = _cluster(attention.astype(np.float64), clusters, generator(seed, "adc", key))
    kept = np.empty((clusters, length), np.int64)
    for cluster in range(clusters):
        scores = attention[assignment == cluster].mean(axis=0, dtype=np.float64)
        best = np.argsort(-scores, kind="stable")[: length - 1]
        kept[cluster] = np.concatenate(([0], np.sort(best) + 1))
    return Selection(kept, assignment)


def merge(
    tokens: np.ndarray, attention: np.ndarray, rho_batch: float, rho_tokens: float, *, seed: int, key: int = 0
) -> Merged:
    """Merge a batch at the cut and keep the most attended tokens.

    tokens      float32 (B, n, d), CLS first
    attention   float32 (B, n-1), attention from CLS to the patches, mean over heads
    seed, key   of the k-means seeding: equal ones give equal clusters

    Raises PayloadError for wrong shapes or values that are not finite, UsageError for ratios out of (0, 1].
    """
    if tokens.ndim != 3 or attention.shape != (tokens.shape[0], tokens.shape[1] - 1) or not attention.size:
        raise PayloadError("tokens", f"{tokens.shape} and attention {attention.shape} do not fit (B, n, d)")
    if not np.isfinite(tokens).all():
        raise PayloadError("tokens", "must be finite")
    batch, length, _ = tokens.shape
    kept, assignment = select(attention, rho_batch, rho_tokens, seed=seed, key=key, most=_MOST_NAMED)
    clusters = len(kept)
    merged = np.empty((*kept.shape, tokens.shape[2]), np.float32)
    for cluster in range(clusters):
        members = np.flatnonzero(assignment == cluster)
        # One sample's mean is that sample, to the bit.
        merged[cluster] = tokens[np.ix_(members, kept[cluster])].mean(axis=0, dtype=np.float64)
    return Merged(merged, kept, assignment, kept.size / (batch * length))


def unmerge(assignment: Sequence[int] | np.ndarray, answers: Sequence[_Answer]) -> list[_Answer]:
    """Every sample's answer: its cluster's. `assignment` (B,) indexes `answers` (T)."""
    return [answers[int(cluster)] for cluster in assignment]


def group_count(message: pb.Tokens) -> int:
    """Groups of merged samples in the payload, 1 where nothing was merged. PayloadError if they are wrong."""
    if not message.HasField("groups"):
        return 1
    groups = message.groups
    if groups.samples != len(groups.assignment) or not groups.samples:
        raise PayloadError(
            "tokens.groups.assignment",
            f"must have one byte a sample, {groups.samples}, not {len(groups.assignment)}",
        )
    # One pass in C: the batch may be as long as a message, and the server's event loop waits.
    unused = _EVERY_GROUP.translate(None, groups.assignment)
    count = len(_EVERY_GROUP) - len(unused)
    if unused != _EVERY_GROUP[count:]:
        raise PayloadError("tokens.groups.assignment", "must use every group from 0 up")
    return count


def groups_message(assignment: np.ndarray) -> pb.AdcGroups:
    """The groups as they are sent, and charged: one byte a sample."""
    return pb.AdcGroups(samples=len(assignment), assignment=assignment.astype(np.uint8).tobytes())


def _cluster(points: np.ndarray, clusters: int, random: np.random.Generator) -> np.ndarray:
    """Lloyd's k-means on points (B, f): cluster of each, numbered by first appearance, none empty."""
    batch = len(points)
    if clusters == batch:
        return np.arange(batch)
    centres = _seeds(points, clusters, random)
    assignment = np.full(batch, -1)
    for _ in range(_ROUNDS):
        distances = (points**2).sum(axis=1)[:, None] - 2.0 * points @ centres.T + (centres**2).sum(axis=1)
        nearest = np.argmin(distances, axis=1)
        _fill_empty(nearest, distances, clusters)
        if (nearest == assignment).all():
            break
        assignment = nearest
        centres = np.stack([points[assignment == cluster].mean(axis=0) for cluster in range(clusters)])
    first = np.unique(assignment, return_index=True)[1]
    order = np.empty(clusters, np.int64)
    order[np.argsort(first)] = np.arange(clusters)
    return order[assignment]


def _seeds(points: np.ndarray, clusters: int, random: np.random.Generator) -> np.ndarray:
    """k-means++: each next centre is a point drawn in proportion to its squared distance from the others."""
    chosen = [int(random.integers(len(points)))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < clusters:
        edges = np.cumsum(nearest)
        if edges[-1] > 0.0:
            index = int(np.searchsorted(edges, random.random() * edges[-1], side="right"))
        else:  # all points left coincide with a centre
            index = next(i for i in range(len(points)) if i not in chosen)
        chosen.append(min(index, len(points) - 1))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return points[chosen]


def _fill_empty(assignment: np.ndarray, distances: np.ndarray, clusters: int) -> None:
    """Give each empty cluster the sample farthest from its own centre, out of a cluster that has more."""
    sizes = np.bincount(assignment, minlength=clusters)
    misfit = distances[np.arange(len(assignment)), assignment]
    for cluster in np.flatnonzero(sizes == 0):
        movable = np.where(sizes[assignment] > 1, misfit, -np.inf)
        sample = int(np.argmax(movable))
        sizes[assignment[sample]] -= 1
        sizes[cluster] += 1
        assignment[sample], misfit[sample] = cluster, 0.0
