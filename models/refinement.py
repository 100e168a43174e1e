"""When to refine: what to send first, what then, and below which margin, chosen on a calibration Profile. numpy alone.

    `keep` at `bits` ─► margin at the last exit < threshold ─► the planes up to `refine_bits`, or further tokens up to
                                                               `refine_keep`

Only samples whose answer is not sure pay for more. After DQT's nested integers (arXiv 2508.09176); the rule,
and choosing it under a budget of bytes, are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codec.refinement import ASK_BYTES, REFINABLE_BYTES, refinement_bytes, wants_more
from ..errors import UsageError
from .profile import Profile

__all__ = ["Exchange", "RefinementRule", "best_refinement", "exchange", "refined_exchange"]


class RefinementRule(NamedTuple):
    """Send `keep` at `bits`; where the server's margin is below `margin`, more: the fields are a Decision's."""

    keep: float
    bits: int
    refine_keep: float
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


def refined_exchange(profile: Profile, cut: int, dims: int, rule: RefinementRule) -> Exchange:
    """The same with refinement by `rule`: requests, refinements and all replies are counted."""
    first = exchange(profile, cut, rule.keep, dims, rule.bits)
    asked = np.asarray(wants_more(_margins(profile, cut, dims, rule).astype(float), rule.margin))
    correct, further = _second(profile, cut, dims, rule)
    return Exchange(
        np.where(asked, correct, first.correct),
        first.nbytes + REFINABLE_BYTES + np.where(asked, further, 0),
        asked,
    )


def best_refinement(
    profile: Profile, cut: int, dims: int, most_bytes: float, keep: float = 0.0
) -> RefinementRule | None:
    """The rule that is right most often on a calibration Profile at `most_bytes` a request in the mean, both ways.

    keep  what is kept in the end; 0: that is free too

    Of rules that are right as often, the one that sends most: the samples are few, and what costs no more than is
    allowed may help others. None where nothing that the Profile knows fits. UsageError for an evaluation Profile.
    """
    profile.require("calibration", "packed")
    best: tuple[float, float] | None = None
    chosen = None
    for rule in _rules(profile):
        if keep and keep != (rule.refine_keep or rule.keep):
            continue
        first = exchange(profile, cut, rule.keep, dims, rule.bits)
        base = float(first.nbytes.mean()) + REFINABLE_BYTES
        if base > most_bytes:
            continue
        margins = _margins(profile, cut, dims, rule)
        order = np.argsort(margins, kind="stable")
        correct, further = _second(profile, cut, dims, rule)
        gain = (correct.astype(int) - first.correct)[order]
        right = first.correct.sum() + np.concatenate(([0], np.cumsum(gain)))
        mean_bytes = base + np.concatenate(([0], np.cumsum(further[order]))) / len(profile)
        edges = np.concatenate((margins[order], [np.float32(2.0)]))
        # No threshold stands between equal margins: they are refined together or not at all.
        counts = np.flatnonzero(np.diff(edges, prepend=np.float32(-1.0)) > 0)
        counts = counts[mean_bytes[counts] <= most_bytes]
        # The last of the best ones.
        count = int(counts[::-1][np.argmax(right[counts[::-1]])])
        score = (float(right[count]), float(mean_bytes[count]))
        if best is None or score > best:
            best, chosen = score, rule._replace(margin=float(edges[count]))
    return chosen


def _rules(profile: Profile) -> Iterator[RefinementRule]:
    """All that the Profile knows the outcome of, without a threshold."""
    for keep, bits in product(profile.keeps, profile.bits):
        for wider in profile.bits:
            if wider > bits:
                yield RefinementRule(keep, bits, 0.0, wider, 0.0)
        for more in profile.grid.more(profile.card, keep):
            yield RefinementRule(keep, bits, more, 0, 0.0)


def _margins(profile: Profile, cut: int, dims: int, rule: RefinementRule) -> NDArray[np.float32]:
    """Of the answers to the first message, float32 (S,)."""
    margins: NDArray[np.float32] = profile.tail_margin[profile.config(cut, rule.keep, dims, rule.bits), :, -1]
    return margins


def _second(
    profile: Profile, cut: int, dims: int, rule: RefinementRule
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """What a refinement makes of each sample: correct bool (S,), and what it adds, int64 (S,): the second message, the
    asking, the second reply."""
    around = ASK_BYTES + profile.reply_bytes
    if rule.refine_keep:
        found, index = profile.refinement(cut, rule.keep, rule.refine_keep, dims, rule.bits)
        return found.prediction[index, :, -1] == profile.labels, found.nbytes[index].astype(np.int64) + around
    if profile.coder != "packed":
        raise UsageError("profiles of entropy-coded requests do not know the size of a plane")
    tokens = np.broadcast_to(profile.tokens[profile.config(cut, rule.keep, dims, rule.bits)], len(profile))
    width = dims or profile.card.dim
    sizes = {
        count: refinement_bytes(count, width, rule.refine_bits - rule.bits)
        for count in np.unique(tokens).tolist()
    }
    further = np.array([sizes[count] for count in tokens.tolist()])
    return exchange(profile, cut, rule.keep, dims, rule.refine_bits).correct, further + around
