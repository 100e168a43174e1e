"""When to refine: widths and threshold of progressive refinement, chosen on a calibration Profile. numpy alone.

    first `bits` planes ─► margin at the last exit < threshold ─► the planes up to `refine_bits`

Only samples whose answer is not sure pay for more. After DQT's nested integers (arXiv 2508.09176); the rule,
and choosing it under a budget of bytes, are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codec.refinement import ASK_BYTES, REFINABLE_BYTES, refinement_bytes, wants_more
from ..errors import UsageError
from .profile import Profile

__all__ = ["Exchange", "RefinementRule", "best_refinement", "exchange", "refined_exchange"]


class RefinementRule(NamedTuple):
    """Send `bits` planes; where the server's margin is below `margin`, the others up to `refine_bits`."""

    bits: int
    refine_bits: int
    margin: float


class Exchange(NamedTuple):
    """What became of each of S samples: correct bool (S,), bytes both ways int (S,), refined bool (S,)."""

    correct: NDArray[np.bool_]
    nbytes: NDArray[np.int64]
    refined: NDArray[np.bool_]


def exchange(profile: Profile, cut: int, keep: float, dims: int, bits: int) -> Exchange:
    """One width for all, local exits off, answered at the last exit."""
    index = profile.config(cut, keep, dims, bits)
    correct = profile.tail_prediction[index, :, -1] == profile.labels
    nbytes = profile.request_bytes[index].astype(np.int64) + profile.reply_bytes
    return Exchange(correct, nbytes, np.zeros(len(profile), bool))


def refined_exchange(profile: Profile, cut: int, keep: float, dims: int, rule: RefinementRule) -> Exchange:
    """The same with refinement by `rule`: requests, refinements and all replies are counted."""
    first, whole = (exchange(profile, cut, keep, dims, bits) for bits in (rule.bits, rule.refine_bits))
    index = profile.config(cut, keep, dims, rule.bits)
    asked = np.asarray(wants_more(profile.tail_margin[index, :, -1].astype(float), rule.margin))
    further = _further_bytes(profile, cut, keep, dims, rule.bits, rule.refine_bits)
    return Exchange(
        np.where(asked, whole.correct, first.correct),
        first.nbytes + REFINABLE_BYTES + np.where(asked, further, 0),
        asked,
    )


def best_refinement(
    profile: Profile, cut: int, keep: float, dims: int, most_bytes: float
) -> RefinementRule | None:
    """The rule that is right most often on a calibration Profile at `most_bytes` a request in the mean, both ways.

    Of equally good ones the one of fewest bytes. None where no pair of the Profile's widths fits. UsageError for an
    evaluation Profile.
    """
    profile.require("calibration", "packed")
    best: tuple[float, float] | None = None
    chosen = None
    for bits in profile.bits:
        for refine_bits in (wider for wider in profile.bits if wider > bits):
            first, whole = (exchange(profile, cut, keep, dims, width) for width in (bits, refine_bits))
            margins = profile.tail_margin[profile.config(cut, keep, dims, bits), :, -1]
            order = np.argsort(margins, kind="stable")
            gain = (whole.correct.astype(int) - first.correct)[order]
            right = first.correct.sum() + np.concatenate(([0], np.cumsum(gain)))
            further = _further_bytes(profile, cut, keep, dims, bits, refine_bits)[order]
            base = float(first.nbytes.mean()) + REFINABLE_BYTES
            mean_bytes = base + np.concatenate(([0], np.cumsum(further))) / len(profile)
            edges = np.concatenate((margins[order], [np.float32(2.0)]))
            # No threshold stands between equal margins: they are refined together or not at all.
            counts = np.flatnonzero(np.diff(edges, prepend=np.float32(-1.0)) > 0)
            counts = counts[mean_bytes[counts] <= most_bytes]
            if not len(counts):
                continue
            count = int(counts[np.argmax(right[counts])])
            score = (float(right[count]), -float(mean_bytes[count]))
            if best is None or score > best:
                best, chosen = score, RefinementRule(bits, refine_bits, float(edges[count]))
    return chosen


def _further_bytes(
    profile: Profile, cut: int, keep: float, dims: int, bits: int, refine_bits: int
) -> NDArray[np.int64]:
    """What a refinement adds for each sample, int64 (S,): the second message, the asking, the second reply."""
    if profile.coder != "packed":
        raise UsageError("profiles of entropy-coded requests do not know the size of a plane")
    tokens = np.broadcast_to(profile.tokens[profile.config(cut, keep, dims, bits)], len(profile))
    width = dims or profile.card.dim
    sizes = {
        count: refinement_bytes(profile.card.id, count, width, refine_bits - bits)
        for count in np.unique(tokens).tolist()
    }
    return np.array([sizes[count] for count in tokens.tolist()]) + ASK_BYTES + profile.reply_bytes
