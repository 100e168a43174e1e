"""A start for training: the network imitates the predicted optimum, and begins as a strong rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ..policies.belief import predict
from ..policies.budgets import Budgets
from ..policies.features import FEATURES, Scales
from ..policies.lyapunov import predicted_costs
from ..policies.memory import MEMORY
from ..policies.observation import Observation
from ..policies.predicted import PredictedUtility
from ..seeding import generator
from .rl_env import TrainingVecEnv

__all__ = ["imitate", "observation_of"]

_UNSENT = len(FEATURES) + MEMORY.index("unsent")
_STATES = 8_000
_EPOCHS = 60
_BATCH = 512


def imitate(
    model: Any,
    env: TrainingVecEnv,
    predicted: PredictedUtility,
    budgets: Budgets,
    scales: Scales,
    explore_after: float,
) -> None:
    """Cross-entropy of the policy to what the predictions say is best, in states that this rule itself visits.

    explore_after: requests without one sent after which the rule tries the link again
    """
    rows = env.reset()
    # A feature is rounded: half a request below is after it, too.
    longest = math.log2(0.5 + explore_after)
    seen, chosen = [], []
    draws = generator(model.seed or 0, "imitation")
    for _ in range(max(1, _STATES // env.num_envs)):
        best = np.array(
            [
                _best(predicted, budgets, observation_of(row, scales), row[_UNSENT] > longest, prices)
                for row, prices in zip(rows, env.prices, strict=True)
            ]
        )
        seen.append(rows)
        chosen.append(best)
        # One action in five is any: states beside the rule's own path are met too.
        coin, other = draws.random((2, len(best)))
        acted = np.where(coin < 0.2, (other * model.action_space.n).astype(int), best)
        env.step_async(acted)
        rows, _, _, _ = env.step_wait()
    observations = torch.as_tensor(np.concatenate(seen))
    actions = torch.as_tensor(np.concatenate(chosen))
    policy = model.policy
    policy.set_training_mode(True)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(model.seed or 0)
    for _ in range(_EPOCHS):
        for batch in torch.randperm(len(actions), generator=order).split(_BATCH):
            _, log_probability, entropy = policy.evaluate_actions(observations[batch], actions[batch])
            # A little entropy: what is not tried cannot be found better.
            loss = -log_probability.mean() - 0.005 * entropy.mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def observation_of(row: np.ndarray, scales: Scales) -> Observation:
    """The Observation behind a row of features, as far as predictions look at it."""
    known, snr, rate, sigma, round_trip, queue, load, energy, left, up = (float(x) for x in row[:10])
    unknown = math.nan
    return Observation(
        10.0 * snr if known else unknown,
        10.0 ** (rate + 6.0) if known else unknown,
        10.0 * sigma if known else unknown,
        round_trip * scales.deadline_s if known else unknown,
        round(2.0**queue - 1.0),
        2.0**load - 1.0,
        energy,
        left * scales.deadline_s,
        up > 0.5,
    )


def _best(
    predicted: PredictedUtility,
    budgets: Budgets,
    observation: Observation,
    explores: bool,
    prices: np.ndarray,
) -> int:
    prediction = predict(predicted, observation)
    values = prediction.utility
    if len(prices):
        values = values - prices @ predicted_costs(prediction, budgets, observation.device_queue)
    if observation.link_up and explores:
        values = np.where(predicted.sends, values, -np.inf)
    return int(values.argmax())
