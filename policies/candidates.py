"""The Decisions that a policy chooses among: the calibration profile's grid, and the part of it worth looking at."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from ..models.profile import Profile
from .belief import REPORT_SIGMA_DB
from .decision import NEVER, Decision
from .predicted import PredictedUtility
from .rules import UtilityWeights

__all__ = ["EXIT_MARGINS", "best_somewhere", "grid_decisions"]

EXIT_MARGINS = (0.5, 0.7, 0.85, 0.95, NEVER)
"""What policies choose among unless told otherwise: margins are continuous, the Profile has no grid of them."""


def grid_decisions(profile: Profile, exit_margins: tuple[float, ...]) -> list[Decision]:
    """Every Decision on the Profile's grid, times the given exit margins.

    Cut 0 has no compression to choose; all local neither, but for how much gates keep on the device.
    """
    depth = profile.card.depth
    decisions = []
    for margin in exit_margins:
        decisions += [Decision(0, exit_margin=margin), Decision(depth, exit_margin=margin)]
        if profile.card.gates:
            decisions += [Decision(depth, keep, exit_margin=margin) for keep in profile.keeps if keep != 1.0]
        decisions += [
            Decision(cut, keep, dims, bits, exit_margin=margin)
            for cut, keep, dims, bits in product(
                (c for c in profile.cuts if 0 < c < depth), profile.keeps, profile.dims, profile.bits
            )
        ]
    return decisions


def best_somewhere(
    predicted: PredictedUtility,
    weights: UtilityWeights,
    prices: Sequence[tuple[float, ...]],
) -> list[int]:
    """Candidates that win at some rate, time left, queue and price: the others need not be looked at again.

    prices: on (latency, energy, airtime), each over its reference of the utility.
    """
    deadline_s = weights.deadline_s
    winners = set()
    for rate_bps, sigma_db, round_trip_s, part, queue in product(
        [1.0, *np.logspace(3, 9, 25).tolist()],
        (REPORT_SIGMA_DB, 6.0),
        (0.0, 0.1 * deadline_s),
        (0.25, 0.5, 1.0),
        (0, 4),
    ):
        found = predicted.expect(rate_bps, sigma_db, round_trip_s, part * deadline_s, queue)
        for latency, energy, airtime in prices:
            value = (
                found.utility
                - latency * (1 + queue) * found.latency_s / deadline_s
                - energy * found.energy_j / weights.energy_ref_j
                - airtime * found.airtime_s / weights.airtime_ref_s
            )
            winners.add(int(value.argmax()))
    # Exploration needs one that always sends; the cheapest to send and try is the best sender on a good link.
    sure = predicted.expect(1e9, REPORT_SIGMA_DB, 0.0, deadline_s, 0).utility
    return sorted(winners | {int(np.where(predicted.sends, sure, -np.inf).argmax())})
