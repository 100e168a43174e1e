"""Refinement against fixed settings at equal mean bytes, for `bits.py`: all is chosen on a calibration Profile."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from splitpoint.models.profile import Profile
from splitpoint.models.refinement import Exchange, best_refinement, exchange, refined_exchange
from splitpoint.seeding import generator

__all__ = ["compare", "figures"]

DRAWS = 2000


def spread(gain: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % interval of the mean of paired differences (S,), by bootstrap, in points."""
    drawn = generator(seed, "bits-bootstrap").integers(0, len(gain), (DRAWS, len(gain)))
    low, high = np.quantile(gain[drawn].mean(axis=1), (0.025, 0.975))
    return 100.0 * float(low), 100.0 * float(high)


def figures(found: Exchange) -> dict[str, float]:
    return {
        "accuracy": round(float(found.correct.mean()), 4),
        "bytes": round(float(found.nbytes.mean()), 1),
        "refined": round(float(found.refined.mean()), 4),
    }


class Rival(NamedTuple):
    """A fixed setting, the mean bytes that refinement may cost, and what it must keep in the end; 0: anything."""

    keep: float
    bits: int
    most_bytes: float
    end_keep: float


def rivals(profile: Profile, cut: int, dims: int) -> Iterator[tuple[str, Rival]]:
    """By kind; `profile` is the calibration's.

    width    at each keep the best width within the bytes of every width but the narrowest
    setting  of all keeps and widths those that are right more often than all that cost less, but the cheapest
    """
    accuracy, nbytes = {}, {}
    for setting in product(profile.keeps, profile.bits):
        found = exchange(profile, cut, setting[0], dims, setting[1])
        accuracy[setting], nbytes[setting] = float(found.correct.mean()), float(found.nbytes.mean())
    for keep in profile.keeps:
        for bits in sorted(profile.bits)[1:]:
            fitting = [width for width in profile.bits if width <= bits]
            best = max(fitting, key=lambda width: (accuracy[keep, width], -width))
            yield "width", Rival(keep, best, nbytes[keep, bits], keep)
    most = 0.0
    for setting in sorted(nbytes, key=lambda setting: (nbytes[setting], -accuracy[setting])):
        if accuracy[setting] > most:
            if most:
                yield "setting", Rival(*setting, nbytes[setting], 0.0)
            most = accuracy[setting]


def compare(calibration: Profile, evaluation: Profile, cut: int, dims: int) -> list[dict[str, Any]]:
    """Refinement against every rival: figures of the evaluation, gains in points with their 95 % intervals."""
    rows = []
    for place, (kind, rival) in enumerate(rivals(calibration, cut, dims)):
        rule = best_refinement(calibration, cut, dims, rival.most_bytes, rival.end_keep)
        if rule is None:
            continue
        fixed = exchange(evaluation, cut, rival.keep, dims, rival.bits)
        refined = refined_exchange(evaluation, cut, dims, rule)
        gain = refined.correct.astype(float) - fixed.correct
        rows.append(
            {
                "rival": kind,
                "cut": cut,
                "dims": dims,
                "fixed": {"keep": rival.keep, "bits": rival.bits} | figures(fixed),
                "rule": {**rule._asdict(), "margin": round(rule.margin, 4)},
                "refinement": figures(refined),
                "gain_points": round(100.0 * float(gain.mean()), 2),
                "interval_points": [round(value, 2) for value in spread(gain, place)],
            }
        )
    return rows
