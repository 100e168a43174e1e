"""The reward's parts: what each term of the utility gave or took."""

from __future__ import annotations

from ..rules import UtilityWeights
from .solo import Result

__all__ = ["reward_parts"]


def reward_parts(result: Result, weights: UtilityWeights) -> dict[str, float]:
    """The terms of `rules.utility`, signed; they sum to the reward."""
    airtime_s = result.airtime_up_s + result.airtime_down_s
    return {
        "correct": float(result.correct),
        "latency": -weights.latency * result.latency_s / weights.deadline_s,
        "energy": -weights.energy * result.energy_j / weights.energy_ref_j,
        "airtime": -weights.airtime * airtime_s / weights.airtime_ref_s,
        "late": -weights.late * result.late,
    }
