"""Greedy: the Decision with the best predicted utility for this request, under the estimated rate."""

from __future__ import annotations

from collections.abc import Sequence

from ..models.profile import Profile
from .belief import EXPLORE_AFTER, Exploration, predict
from .candidates import best_somewhere, grid_decisions
from .decision import Decision
from .deployment import Deployment
from .observation import Observation
from .policy import Outcome
from .predicted import PredictedUtility

__all__ = ["Greedy", "GreedyTables"]


class Greedy:
    """Evaluates the candidates that are the best ones somewhere, and takes the best one here.

    explore_after   local answers in a row after which the link is tried again (`belief.Exploration`)
    """

    def __init__(self, tables: GreedyTables, explore_after: float = EXPLORE_AFTER) -> None:
        self._tables = tables
        self._exploration = Exploration(explore_after)

    def decide(self, observation: Observation) -> Decision:
        predicted = self._tables.predicted
        values = predict(predicted, observation).utility
        return predicted.candidates[self._exploration.best(values, predicted.sends, observation.link_up)]

    def learn(self, outcome: Outcome) -> None:
        self._exploration.learn(outcome)

    def reset(self, seed: int) -> None:
        self._exploration.reset()


class GreedyTables:
    """What the policies of equal devices share: the predictions of the candidates that win somewhere.

    prices   weights on (latency, energy, airtime), each over its reference of the utility, under which candidates
             must win too; budgets make costs dearer than the utility does
    """

    def __init__(
        self,
        profile: Profile,
        deployment: Deployment,
        exit_margins: tuple[float, ...],
        prices: Sequence[tuple[float, ...]] = ((0.0, 0.0, 0.0),),
    ) -> None:
        everything = PredictedUtility(profile, grid_decisions(profile, exit_margins), deployment)
        self.deployment = deployment
        self.predicted = everything.keep(best_somewhere(everything, deployment.weights, prices))
