"""What a board decides by when it is not told: what is known beforehand of its power and of the server."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..models.card import ModelCard
from ..models.profile import Profile
from ..policies.candidates import EXIT_MARGINS
from ..policies.decision import Decision
from ..policies.deployment import Deployment
from ..policies.greedy import Greedy, GreedyTables
from ..policies.policy import Policy
from ..policies.rules import Power, UtilityWeights
from ..policies.service_time import Pace
from ..policies.static import Static
from .load import calibration_of

__all__ = ["POWER", "default_policy"]

_SURE = 0.9
_OVERHEAD_S = 0.003
_SERVER = Pace(0.001, 2.0e10)
POWER = Power(cpu_w=2.5, tx_w=1.3, rx_w=0.9, idle_w=0.3)
"""Of a small single-board computer."""


def default_policy(
    model: str | Path,
    card: ModelCard,
    block_s: tuple[float, ...],
    slack_s: float,
    deadline_s: float,
    explore_after: float,
) -> Policy:
    """Greedy from the model's calibration profile, without one a split at half depth.

    DataError for a profile of another model.
    """
    path = calibration_of(model)
    if path is None:
        return Static(Decision(card.depth // 2, exit_margin=_SURE))
    profile = Profile.load(path)
    if profile.card.id != card.id:
        raise DataError(f"{path} was measured for model {profile.card.id}, not for {card.id}")
    weights = UtilityWeights(
        latency=0.2,
        energy=0.1,
        airtime=0.1,
        late=0.5,
        deadline_s=deadline_s,
        energy_ref_j=0.1,
        airtime_ref_s=0.05,
    )
    deployment = Deployment(block_s, _OVERHEAD_S, slack_s, _SERVER, POWER, weights)
    return Greedy(GreedyTables(profile, deployment, EXIT_MARGINS), explore_after)
