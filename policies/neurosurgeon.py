"""Neurosurgeon: the cut with the least predicted latency (Kang et al., ASPLOS 2017).

As there, what is chosen is the layer alone: activations are sent whole, and no exit answers early. The rate is the
device's estimate.
"""

from __future__ import annotations

from ..models.profile import Profile
from .belief import Exploration, predict
from .decision import Decision
from .deployment import Deployment
from .observation import Observation
from .policy import Outcome
from .predicted import PredictedUtility

__all__ = ["Neurosurgeon", "NeurosurgeonTables"]


class NeurosurgeonTables:
    """Predictions for every cut, nothing compressed; shared by equal devices."""

    def __init__(self, profile: Profile, deployment: Deployment) -> None:
        depth = profile.card.depth
        cuts = [
            Decision(cut, max(profile.keeps), max(profile.dims), max(profile.bits))
            for cut in profile.cuts
            if 0 < cut < depth
        ]
        self.predicted = PredictedUtility(profile, [Decision(0), *cuts, Decision(depth)], deployment)


class Neurosurgeon:
    """Minimises predicted latency; explore_after as in Greedy."""

    def __init__(self, tables: NeurosurgeonTables, explore_after: float) -> None:
        self._tables = tables
        self._exploration = Exploration(explore_after)

    def decide(self, observation: Observation) -> Decision:
        predicted = self._tables.predicted
        values = -predict(predicted, observation).latency_s
        return predicted.candidates[self._exploration.best(values, predicted.sends, observation.link_up)]

    def learn(self, outcome: Outcome) -> None:
        self._exploration.learn(outcome)

    def reset(self, seed: int) -> None:
        self._exploration.reset()
