"""The rules that agent, engines and environments share: pure functions on scalars or on arrays.

Sources: exit rule and slope, recursive early exit (arXiv 2412.19587); virtual queue, Lyapunov control
(arXiv 2505.17604); utility and energy are this project's own definitions.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = [
    "Number",
    "Power",
    "UtilityWeights",
    "energy_j",
    "exits",
    "offloads",
    "queue_step",
    "tried_s",
    "utility",
    "utility_parts",
    "waited_s",
]

Number = TypeVar("Number", float, np.ndarray)


class Power(NamedTuple):
    """What a device draws, in watts."""

    cpu_w: float
    tx_w: float
    rx_w: float
    idle_w: float


class UtilityWeights(NamedTuple):
    """Constants of the utility: weights without unit and the references they are relative to."""

    latency: float
    energy: float
    airtime: float
    late: float
    deadline_s: float
    energy_ref_j: float
    airtime_ref_s: float


def exits(margin: Number, exit_margin: float) -> bool | np.ndarray:
    """Whether an exit with this margin answers."""
    return margin >= exit_margin


def offloads(margin: Number, previous: Number, offload_slope: float) -> bool | np.ndarray:
    """Whether confidence rises too slowly from one exit to the next, so that the server should go on."""
    return margin - previous < offload_slope


def energy_j(power: Power, head_s: Number, uplink_s: Number, downlink_s: Number, wait_s: Number) -> Number:
    """Energy of one request on the device, in joules.

    head_s: computing; uplink_s, downlink_s: airtime; wait_s: neither computing nor on the air.
    """
    return power.cpu_w * head_s + power.tx_w * uplink_s + power.rx_w * downlink_s + power.idle_w * wait_s


def tried_s(sent_s: Number, answer_by_s: Number, closed_s: Number) -> Number:
    """Seconds for which the radio is charged where no reply came, so that nothing was measured.

    From the sending to `answer_by_s`, or to `closed_s`, when the link was found to be down.
    """
    both = isinstance(closed_s, np.ndarray)
    return _positive((np.minimum(answer_by_s, closed_s) if both else min(answer_by_s, closed_s)) - sent_s)


def waited_s(sent_s: Number, done_s: Number, uplink_s: Number, downlink_s: Number) -> Number:
    """Seconds between the sending and the reply in which the device was not on the air."""
    return _positive(done_s - sent_s - uplink_s - downlink_s)


def _positive(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.maximum(0.0, value)
    return value if value > 0.0 else 0.0


def utility_parts(
    correct: Number,
    latency_s: Number,
    energy: Number,
    airtime_s: Number,
    late: Number,
    weights: UtilityWeights,
) -> dict[str, Number]:
    """What each term gives (correct) or takes (latency, energy, airtime, late); they sum to `utility`."""
    return {
        "correct": correct,
        "latency": -weights.latency * latency_s / weights.deadline_s,
        "energy": -weights.energy * energy / weights.energy_ref_j,
        "airtime": -weights.airtime * airtime_s / weights.airtime_ref_s,
        "late": -weights.late * late,
    }


def utility(
    correct: Number,
    latency_s: Number,
    energy: Number,
    airtime_s: Number,
    late: Number,
    weights: UtilityWeights,
) -> Number:
    """Utility of one request: 1 for a correct answer, less what it cost.

    correct: 1 or 0, or the calibrated probability where the label is unknown; energy in joules;
    late: 1 or 0.
    """
    parts = utility_parts(correct, latency_s, energy, airtime_s, late, weights)
    return parts["correct"] + parts["latency"] + parts["energy"] + parts["airtime"] + parts["late"]


def queue_step(backlog: Number, cost: Number, budget: float, step: float) -> Number:
    """Virtual queue after one request: max(0, Z + mu (g - gbar))."""
    return _positive(backlog + step * (cost - budget))
