"""The reward's parts: what each term of the utility gave or took."""

from __future__ import annotations

from ..rules import Number, UtilityWeights

__all__ = ["reward_parts"]


def reward_parts(
    correct: Number,
    latency_s: Number,
    energy_j: Number,
    airtime_s: Number,
    late: Number,
    weights: UtilityWeights,
) -> dict[str, Number]:
    """The terms of `rules.utility`, signed; they sum to the reward. Scalars, or arrays of one shape."""
    return {
        "correct": 1.0 * correct,
        "latency": -weights.latency / weights.deadline_s * latency_s,
        "energy": -weights.energy / weights.energy_ref_j * energy_j,
        "airtime": -weights.airtime / weights.airtime_ref_s * airtime_s,
        "late": -weights.late * late,
    }
