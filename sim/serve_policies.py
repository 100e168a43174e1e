"""From `splitpoint serve --policy` to what the server's policies are made by."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from ..errors import UsageError, did_you_mean
from ..policies.belief import EXPLORE_AFTER
from ..server.deciding import PolicySource
from .make_policies import PolicyMaker
from .policy_config import (
    BanditPolicy,
    BestStaticPolicy,
    GreedyPolicy,
    LyapunovPolicy,
    NeurosurgeonPolicy,
    PolicyConfig,
    RandomPolicy,
    ReplayPolicy,
    TrainedPolicy,
)
from .scenario import Scenario, load_scenario
from .setup import Setup

__all__ = ["policy_source"]

_USUAL = "quickstart"

_Exploring = BanditPolicy | GreedyPolicy | LyapunovPolicy | NeurosurgeonPolicy
_Plain = BanditPolicy | BestStaticPolicy | GreedyPolicy | LyapunovPolicy | NeurosurgeonPolicy | RandomPolicy


def policy_source(policy: str, scenario: str | None, model: str) -> PolicySource:
    """Makes the policy of every board that asks.

    policy    a kind that needs no more said, a policy's name in the scenario, or a trained policy's safetensors
    scenario  whose devices, server, utility and budgets the policies reckon with; None: those of quickstart
    model     the network that they decide for, where no scenario names it

    A device whose name is a number is that device of the scenario, counted on from its first where it has fewer; any
    other is its first. Raises ConfigError, DataError or UsageError, also for a policy that cannot be made.
    """
    if scenario is None:
        if not model:
            raise UsageError(
                "a server of learners alone has no network to decide for: name --policy-scenario"
            )
        config = _config(policy, None)
        changes: dict[str, Any] = {"model": model, "policies": [config.model_dump()]}
        loaded = load_scenario(_USUAL, changes)
    else:
        loaded = load_scenario(scenario)
        config = _config(policy, loaded)
    if isinstance(config, ReplayPolicy):
        raise UsageError(f"policy '{config.name}' replays a run: it decides for no board")
    setup = Setup(loaded)
    config = setup.tuned(config)
    if isinstance(config, _Exploring) and config.explore_after is None:
        # A board may have no modem that measures by itself, whatever the scenario's devices have.
        config = config.model_copy(update={"explore_after": EXPLORE_AFTER})
    maker, devices = PolicyMaker(setup), len(setup.groups)

    def make(device: str) -> Any:
        return maker.make(config, int(device) % devices if device.isdecimal() else 0)

    # What is wrong with it is said before anybody asks, and what devices of a group share is made.
    for device in {setup.group_of(device): device for device in range(devices)}.values():
        make(str(device))
    return PolicySource(config.name, setup.card, make, loaded.seed)


def _config(policy: str, scenario: Scenario | None) -> PolicyConfig:
    if policy.endswith(".safetensors"):
        return TrainedPolicy(path=Path(policy).resolve())
    named = {} if scenario is None else {config.name: config for config in scenario.policies}
    plain = {kind.model_fields["kind"].default: kind for kind in get_args(_Plain)}
    if policy in named:
        return named[policy]
    if policy in plain:
        found: PolicyConfig = plain[policy]()
        return found
    raise UsageError(f"unknown policy '{policy}': {did_you_mean(policy, {*named, *plain})}")
