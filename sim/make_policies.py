"""From a policy's section in the scenario to the policy of one device."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, UsageError
from ..policies.bandit import Bandit
from ..policies.budgets import Budgets
from ..policies.candidates import grid_decisions
from ..policies.confidence import Confidence, fit_confidence
from ..policies.decision import Decision
from ..policies.greedy import Greedy, GreedyTables
from ..policies.lyapunov import Lyapunov
from ..policies.neurosurgeon import Neurosurgeon, NeurosurgeonTables
from ..policies.oracle import Oracle, Sight
from ..policies.oracle_tables import OracleTables
from ..policies.policy import Policy
from ..policies.random_policy import Random
from ..policies.replay import Replay
from ..policies.static import Static
from ..policies.trained import Trained
from ..policies.trained_file import TrainedNetwork, load_trained
from .own_policies import own_factory, own_policy
from .policy_config import (
    BanditPolicy,
    BestStaticPolicy,
    CustomPolicy,
    DecisionConfig,
    GreedyPolicy,
    LyapunovPolicy,
    NeurosurgeonPolicy,
    OraclePolicy,
    PolicyConfig,
    RandomPolicy,
    StaticPolicy,
    TrainedPolicy,
)
from .recorded import recorded_decisions
from .records import read_requests

if TYPE_CHECKING:
    from .setup import Setup

__all__ = ["PolicyMaker"]

_PRICES = (0.0, 0.3, 1.0, 4.0)
"""Prices at which candidates must not be missing: from none to several times the weights of a usual utility."""

_OF_CALIBRATION = ("tables", "neurosurgeon", "confidence", "trained")


class PolicyMaker:
    """Makes the policies of one scenario; what equal devices can share is made once."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._shared: dict[Any, Any] = {}

    def within(self, setup: Setup) -> PolicyMaker:
        """For the same scenario on other data and seeds: what was made of the calibration profile is shared."""
        maker = PolicyMaker(setup)
        maker._shared = {key: made for key, made in self._shared.items() if key[0] in _OF_CALIBRATION}
        return maker

    def make(self, config: PolicyConfig, device: int, sight: Sight | None = None) -> Policy:
        """The policy of one device. sight: what the virtual engines show to an oracle.

        Raises ConfigError, DataError or UsageError.
        """
        setup = self._setup
        match config:
            case StaticPolicy():
                return Static(self._once(("static", config.decision), config.decision.decision))
            case BestStaticPolicy():
                return Static(self._best_static(config))
            case RandomPolicy():
                return Random(grid_decisions(setup.calibration, config.exit_margins), device)
            case GreedyPolicy():
                return Greedy(
                    self._tables(config.exit_margins, device, priced=False),
                    config.explore_after or setup.explore_after,
                )
            case NeurosurgeonPolicy():
                tables = self._once(
                    ("neurosurgeon", setup.group_of(device)),
                    lambda: NeurosurgeonTables(setup.calibration, setup.deployment(device)),
                )
                return Neurosurgeon(tables, config.explore_after or setup.explore_after)
            case LyapunovPolicy():
                return self._lyapunov(config, device)
            case BanditPolicy():
                return Bandit(
                    self._tables(config.exit_margins, device, priced=False),
                    self._confidence(),
                    device,
                    rule=config.rule,
                    width=config.width,
                    ridge=config.ridge,
                    memory=config.memory,
                    explore_after=config.explore_after or setup.explore_after,
                )
            case OraclePolicy():
                return self._oracle(config, device, sight)
            case TrainedPolicy():
                return self._trained(config)
            case CustomPolicy():
                factory = self._once(("own", config.path, config.factory), lambda: own_factory(config))
                return own_policy(config, factory, setup.deployment(device), setup.calibration)
        tables = self._once(("replay", config.path), lambda: read_requests(config.path)[0])
        return Replay(recorded_decisions(tables, config, device, setup.scenario.device_requests()[device]))

    def tuned(self, config: PolicyConfig) -> PolicyConfig:
        """The policy with what is found by simulation on calibration data written out."""
        if isinstance(config, BestStaticPolicy):
            return StaticPolicy(name=config.name, decision=DecisionConfig.of(self._best_static(config)))
        if isinstance(config, LyapunovPolicy | TrainedPolicy) and config.prices is None:
            return config.model_copy(update={"prices": self._calibrated(config)})
        return config

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def _tables(self, exit_margins: tuple[float, ...], device: int, priced: bool) -> GreedyTables:
        setup = self._setup
        budgets = setup.scenario.budgets.budgets()
        prices = _prices(budgets) if priced else _prices(Budgets())
        tables: GreedyTables = self._once(
            ("tables", exit_margins, priced, setup.group_of(device)),
            lambda: GreedyTables(setup.calibration, setup.deployment(device), exit_margins, prices),
        )
        return tables

    def _confidence(self) -> Confidence:
        confidence: Confidence = self._once(("confidence",), lambda: fit_confidence(self._setup.calibration))
        return confidence

    def _best_static(self, config: BestStaticPolicy) -> Decision:
        from .tuning import best_static

        def find() -> Decision:
            return best_static(
                self._setup, self._tables(config.exit_margins, 0, priced=True), config.requests
            )

        decision: Decision = self._once(("best-static", config), find)
        return decision

    def _calibrated(self, config: LyapunovPolicy | TrainedPolicy) -> tuple[float, ...]:
        from .tuning import calibrated_prices

        key = "prices", config.model_copy(update={"name": "", "v": 1.0, "step": 1.0, "debt": 0.0})
        prices: tuple[float, ...] = self._once(key, lambda: calibrated_prices(self._setup, config))
        return prices

    def _lyapunov(self, config: LyapunovPolicy, device: int) -> Lyapunov:
        setup = self._setup
        budgets = setup.scenario.budgets.budgets()
        prices = self._calibrated(config) if config.prices is None else config.prices
        if len(prices) not in ((1, len(budgets.active)) if budgets.active else (0,)):
            raise ConfigError(
                f"policy '{config.name}': {len(prices)} prices for {len(budgets.active)} budgets"
            )
        return Lyapunov(
            self._tables(config.exit_margins, device, priced=bool(budgets.active)),
            budgets,
            v=config.v,
            step=config.step,
            start=[config.v * price for price in prices] if budgets.active else 0.0,
            debt=config.debt,
            explore_after=config.explore_after or setup.explore_after,
        )

    def _trained(self, config: TrainedPolicy) -> Trained:
        setup = self._setup
        network: TrainedNetwork = self._once(("trained", config.path), lambda: load_trained(config.path))
        card, budgets = network.card, setup.scenario.budgets.budgets()
        if card.depth != setup.card.depth:
            raise ConfigError(
                f"policy '{config.name}': {config.path} was trained for a network of depth {card.depth}, "
                f"not {setup.card.depth}"
            )
        if card.model_id != setup.card.id:
            raise ConfigError(
                f"policy '{config.name}': {config.path} was trained for the network {card.model_id}, "
                f"not {setup.card.id} ({setup.card.name})"
            )
        missing = [name for name in card.budgets if name not in budgets.active]
        if missing:
            raise ConfigError(
                f"policy '{config.name}': {config.path} was trained with a budget of {missing[0]}, "
                f"and the scenario {setup.scenario.name} has none"
            )
        unknown = [name for name in budgets.active if name not in card.budgets]
        if unknown:
            raise ConfigError(
                f"policy '{config.name}': the scenario {setup.scenario.name} has a budget of {unknown[0]}, "
                f"and {config.path} was trained without one"
            )
        prices = self._calibrated(config) if config.prices is None else config.prices
        if prices and len(prices) != len(card.budgets):
            raise ConfigError(f"policy '{config.name}': {len(prices)} prices for {len(card.budgets)} budgets")
        return Trained(network, budgets, v=config.v, step=config.step, debt=config.debt, prices=prices)

    def _oracle(self, config: OraclePolicy, device: int, sight: Sight | None) -> Oracle:
        setup = self._setup
        if sight is None:
            raise UsageError(
                f"policy '{config.name}' is clairvoyant: it runs in virtual time only, "
                "with the engine profile or tensor"
            )
        tables = self._once(
            ("oracle", config.labels, config.exit_margins, setup.group_of(device)),
            lambda: OracleTables(
                setup.lookup,
                grid_decisions(setup.lookup, config.exit_margins),
                setup.deployment(device),
                None if config.labels else setup.calibration,
            ),
        )
        budgets = setup.scenario.budgets.budgets()
        if config.prices is None:
            return Oracle(tables, sight, budgets)
        devices, active = len(setup.groups), len(budgets.active)
        if len(config.prices) != devices or any(len(row) != active for row in config.prices):
            raise ConfigError(
                f"policy '{config.name}': prices must be {devices} lists, one a device, "
                f"of {active} prices, one a budget"
            )
        return Oracle(tables, sight, budgets, config.prices[device])


def _prices(budgets: Budgets) -> list[tuple[float, ...]]:
    """Prices on (latency, energy, airtime) to try candidates at: on what has a budget."""
    return list(product(*(_PRICES if budget is not None else (0.0,) for budget in budgets)))
