"""How many packets of a message have to be sent again."""

from __future__ import annotations

from math import exp, log
from statistics import NormalDist

__all__ = ["LARGE_MEAN", "lost_packets"]

LARGE_MEAN = 40.0
"""Mean number of lost packets from which on an expansion stands for the sum."""
_quantile = NormalDist().inv_cdf


def lost_packets(packets: int, loss: float, uniform: float) -> int:
    """Transmissions lost until `packets` have come through, each lost with probability `loss` < 1.

    It is the quantile at `uniform` of the negative binomial distribution, mean packets·loss/(1-loss): one
    keyed uniform draw gives the whole number, without simulating packets. Above a mean of 40 the quantile is the
    Cornish-Fisher expansion: within a packet of it, but for rare draws of few packets on a link that loses most.
    """
    if loss <= 0.0:
        return 0
    mean = packets * loss / (1.0 - loss)
    if mean > LARGE_MEAN:
        deviation = (mean / (1.0 - loss)) ** 0.5
        skewness = (1.0 + loss) / (packets * loss) ** 0.5
        z = _quantile(min(max(uniform, 1e-12), 1.0 - 1e-12))
        return max(0, round(mean + deviation * (z + (z * z - 1.0) * skewness / 6.0)))
    probability = exp(packets * log(1.0 - loss))
    cumulative = probability
    lost = 0
    # The second test ends the sum where rounding would keep it short of `uniform` for ever.
    while cumulative <= uniform and probability > 1e-18:
        probability *= loss * (packets + lost) / (lost + 1)
        lost += 1
        cumulative += probability
    return lost
