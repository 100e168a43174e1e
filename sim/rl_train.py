"""Training of policies with Stable-Baselines3, from a scenario's calibration data to one file for boards."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from ..errors import MissingExtra, UsageError
from ..policies.candidates import EXIT_MARGINS
from ..policies.environments.vector import OffloadVectorEnv
from ..policies.features import FEATURES
from ..policies.greedy import GreedyTables
from ..policies.memory import MEMORY
from ..policies.trained_file import TrainedCard, save_trained
from .environments import environment_config
from .rl_checkpoint import PolicyCheckpoint
from .rl_env import TrainingVecEnv
from .rl_warm_start import imitate
from .scenario import Scenario
from .setup import Setup
from .tuning import tuning_seed

__all__ = ["Algorithm", "PolicyTraining", "train_policy"]

Algorithm = Literal["ppo", "maskable-ppo", "dqn"]

ENVIRONMENT = "splitpoint/Offload-v0"
_SPREAD_S = 200.0
_LINK_PATHS = 128
_PRICED = list(product((0.0, 1.0), (0.0, 1.0), (0.0, 0.3, 1.0, 4.0)))
"""Of latency, energy and airtime: wider than budgets need, so that there is more to choose from."""

_WITHOUT_WEIGHT = {"description", "faults", "policies", "profiles", "requests", "training"}
"""Fields of a scenario that no training sees; of the profiles what they hold counts, not where they lie."""


class PolicyTraining(BaseModel):
    """How a policy is trained.

    choices   "pruned": the action is one of the Decisions that win somewhere by prediction; "grid": every field
    warm      imitate the predicted optimum first
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Algorithm = "ppo"
    steps: int = Field(1_500_000, ge=1)
    seed: int = Field(0, ge=0, lt=2**32, description="what Stable-Baselines3 takes")
    choices: Literal["pruned", "grid"] = "pruned"
    warm: bool = True
    copies: int = Field(256, ge=1)
    episode_requests: int = Field(128, ge=2)
    hidden: tuple[int, ...] = (64, 64)
    discount: float = Field(0.9, ge=0, lt=1)
    learning_rate: float = Field(1e-3, gt=0)


def train_policy(
    scenario: Scenario,
    training: PolicyTraining,
    out: Path,
    *,
    progress: Callable[[int], None] | None = None,
    log: Path | None = None,
    resume: bool = True,
) -> TrainedCard:
    """Train on the first device of the scenario, write the policy to `out`, and beside it a checkpoint to resume from.

    On one thread of torch. progress(steps done) is called now and then; log: folder for TensorBoard. With `resume`, a
    checkpoint of the same training goes on where it was, on new episodes. Raises UsageError for what the algorithm
    cannot do, DataError for a checkpoint of another training or a broken one, and where nothing can be written.
    """
    # Of so small a network several threads wait for each other: on a busy machine seven times as long.
    torch.set_num_threads(1)
    scenario = scenario.for_training({"seed": tuning_seed(training.seed)})
    setup = Setup(scenario)
    setup.as_sent("calibration")
    checkpoint = PolicyCheckpoint(out, _about(scenario, setup, training))
    budgets = scenario.budgets.budgets()
    tables = GreedyTables(setup.calibration, setup.deployment(0), EXIT_MARGINS, _PRICED)
    decisions = tables.predicted.candidates if training.choices == "pruned" else None
    config = environment_config(
        scenario, 0, episode_requests=training.episode_requests, start_spread_s=_SPREAD_S
    )
    paths = min(_LINK_PATHS, training.copies)
    envs = OffloadVectorEnv(config, setup.calibration, training.copies, decisions=decisions, link_paths=paths)
    env = TrainingVecEnv(envs, budgets, tuning_seed(training.seed, 1))
    model = _model(training, env, log)
    if resume and checkpoint.resume(model):
        env.resume(model.num_timesteps)
    elif training.warm and training.algorithm != "dqn" and decisions is not None:
        imitate(model, env, tables.predicted, budgets, config.scales, setup.explore_after)
    left = training.steps - model.num_timesteps
    if left > 0:
        model.learn(
            left,
            callback=_Watch(progress, checkpoint),
            reset_num_timesteps=False,
            tb_log_name=training.algorithm,
        )
    checkpoint.write(model)
    card, arrays = _exported(model, training, scenario, setup, env, budgets.active)
    save_trained(out, card, arrays)
    return card


def _about(scenario: Scenario, setup: Setup, training: PolicyTraining) -> dict[str, Any]:
    """What a policy follows from, but for how long it is trained."""
    return {
        "scenario": scenario.model_dump(mode="json", exclude=_WITHOUT_WEIGHT),
        "calibration": [setup.card.id, setup.calibration.images_id],
        "training": training.model_dump(exclude={"steps"}, mode="json"),
    }


class _Watch(BaseCallback):
    """Progress, and a checkpoint every 20 rollouts."""

    def __init__(self, progress: Callable[[int], None] | None, checkpoint: PolicyCheckpoint) -> None:
        super().__init__()
        self._progress = progress
        self._checkpoint = checkpoint
        self._rollouts = 0

    def _on_step(self) -> bool:
        if self._progress is not None:
            self._progress(self.num_timesteps)
        return True

    def _on_rollout_end(self) -> None:
        self._rollouts += 1
        if self._rollouts % 20 == 0:
            self._checkpoint.write(self.model)


def _model(training: PolicyTraining, env: TrainingVecEnv, log: Path | None) -> BaseAlgorithm:
    network: dict[str, Any] = {"net_arch": list(training.hidden), "activation_fn": torch.nn.Tanh}
    common: dict[str, Any] = {
        "seed": training.seed,
        "gamma": training.discount,
        "policy_kwargs": network,
        "tensorboard_log": None if log is None else str(log),
        "device": "cpu",
    }
    if training.algorithm == "dqn":
        if training.choices != "pruned":
            raise UsageError("dqn needs one list of actions: --choices pruned")
        return DQN(
            "MlpPolicy", env, learning_rate=training.learning_rate, buffer_size=200_000, batch_size=1024,
            learning_starts=8 * training.copies, train_freq=4, gradient_steps=4,
            target_update_interval=100 * training.copies,
            exploration_fraction=0.3, exploration_final_eps=0.02, **common,
        )  # fmt: skip
    common |= {
        "n_steps": 32,
        "batch_size": 8 * training.copies,
        "n_epochs": 4,
        "gae_lambda": 0.9,
        "ent_coef": 0.001,
        "target_kl": 0.03,
        # To nothing at the end: what is left are small corrections.
        "learning_rate": lambda left: training.learning_rate * max(left, 0.02),
    }
    if training.algorithm == "ppo":
        return PPO("MlpPolicy", env, **common)
    try:
        from sb3_contrib import MaskablePPO
    except ImportError:
        raise MissingExtra("maskable-ppo", "sim") from None
    return MaskablePPO("MlpPolicy", env, **common)


def _exported(
    model: BaseAlgorithm,
    training: PolicyTraining,
    scenario: Scenario,
    setup: Setup,
    env: TrainingVecEnv,
    budgets: tuple[str, ...],
) -> tuple[TrainedCard, dict[str, np.ndarray]]:
    """The acting part of the network, as plain arrays, and its card."""
    policy: Any = model.policy
    if training.algorithm == "dqn":
        modules = list(policy.q_net.q_net)
    else:
        modules = [*policy.mlp_extractor.policy_net, policy.action_net]
    linear = [module for module in modules if isinstance(module, torch.nn.Linear)]
    arrays = {}
    for place, layer in enumerate(linear):
        arrays[f"weight.{place}"] = layer.weight.detach().numpy().copy()
        arrays[f"bias.{place}"] = layer.bias.detach().numpy().copy()
    names = (*(f.name for f in FEATURES), *MEMORY, *(f"price_{name}" for name in budgets))
    actions = env.envs.actions
    choices: dict[str, Any]
    if training.choices == "pruned":
        choices = {"decisions": tuple(_plain(decision) for decision in actions.decisions)}
    else:
        from ..policies.environments.actions import AXES

        choices = {"axes": dict(zip(AXES, (tuple(map(float, axis)) for axis in actions.axes), strict=True))}
    battery = setup.groups[0].battery_j
    card = TrainedCard(
        algorithm=training.algorithm,
        environment=ENVIRONMENT,
        scenario=scenario.name,
        seed=training.seed,
        steps=int(model.num_timesteps),
        model_id=setup.card.id,
        depth=setup.card.depth,
        deadline_s=scenario.deadline_s,
        battery_j=battery,
        budgets=budgets,
        observation=names,
        # The features are of order one as they are.
        mean=(0.0,) * len(names),
        scale=(1.0,) * len(names),
        layers=len(linear),
        **choices,
    )
    return card, arrays


def _plain(decision: Any) -> dict[str, float]:
    names = ("split", "keep", "dims", "bits", "exit_margin", "offload_slope")
    return {name: float(getattr(decision, name)) for name in names}
