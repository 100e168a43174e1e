"""The rules and the Decision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.errors import UsageError
from splitpoint.models.card import read_card
from splitpoint.models.store import resolve
from splitpoint.policies.decision import NEVER, Decision
from splitpoint.policies.rules import Power, UtilityWeights, energy_j, exits, offloads, queue_step, utility

WEIGHTS = UtilityWeights(0.2, 0.1, 0.3, 0.5, deadline_s=0.1, energy_ref_j=0.2, airtime_ref_s=0.05)


def test_utility_is_one_less_what_it_cost() -> None:
    assert utility(1.0, 0.05, 0.1, 0.01, 0.0, WEIGHTS) == pytest.approx(1 - 0.1 - 0.05 - 0.06)
    assert utility(0.0, 0.2, 0.0, 0.0, 1.0, WEIGHTS) == pytest.approx(-0.4 - 0.5)


def test_energy_adds_up_the_parts() -> None:
    assert energy_j(Power(2.0, 1.0, 0.5, 0.1), 1.0, 2.0, 3.0, 4.0) == pytest.approx(2 + 2 + 1.5 + 0.4)


def test_exit_and_offload_rules_hold_at_their_thresholds() -> None:
    assert exits(0.5, 0.5)
    assert not exits(1.0, NEVER)
    assert not offloads(0.6, 0.5, 0.1 - 1e-9)
    assert offloads(0.6, 0.5, 0.11)
    assert not offloads(0.0, 1.0, -NEVER)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.floats(0, 10), st.floats(0.01, 2))
def test_virtual_queue_bounds_the_mean_cost(costs: list[float], budget: float, step: float) -> None:
    backlog = 0.0
    for cost in costs:
        backlog = queue_step(backlog, cost, budget, step)
        assert backlog >= 0
    assert np.mean(costs) - budget <= backlog / (step * len(costs)) + 1e-9


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("split", -1), ("split", 1.5), ("split", True), ("keep", 0.0), ("keep", 1.1), ("keep", math.nan),
        ("dims", -1), ("bits", 0), ("bits", 9), ("symbols", 2.0), ("exit_margin", math.inf), ("exit_margin", "x"),
    ],
)  # fmt: skip
def test_a_bad_decision_names_its_field(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"Decision.{field}"):
        Decision(**({"split": 1} | {field: value}))  # type: ignore[arg-type]


def test_a_decision_must_fit_the_network() -> None:
    card = read_card(resolve("clutter"))
    Decision(6, dims=96, merge=0.5).check(card)
    with pytest.raises(UsageError, match="depth, 6"):
        Decision(7).check(card)
    with pytest.raises(UsageError, match="dim, 96"):
        Decision(1, dims=97).check(card)
    gated = card.model_copy(update={"gates": True})
    for field, value in (("merge", 0.5), ("refine_keep", 0.9)):
        with pytest.raises(UsageError, match=rf"Decision\.{field} must be . for a network with gates"):
            Decision(2, keep=0.5, **{field: value}).check(gated)
    Decision(2, keep=4 / 64, refine_keep=5 / 64).check(card)
    with pytest.raises(UsageError, match=r"Decision\.refine_keep must be enough to keep more of 64 patches"):
        Decision(2, keep=4 / 64, refine_keep=4.9 / 64).check(card)


def test_what_is_sent_later_is_more_than_what_was_sent() -> None:
    assert Decision(2, keep=0.5, refine_keep=1.0).refines
    assert Decision(2, bits=2, refine_bits=4).refines
    assert not Decision(0, keep=0.5, refine_keep=1.0).refines  # nothing follows a raw input
    for more in ({"refine_keep": 0.5}, {"refine_keep": 1.1}, {"refine_keep": 0.6, "refine_bits": 8},
                 {"refine_keep": 0.6, "merge": 0.5}, {"refine_keep": 0.6, "symbols": 0.5}):  # fmt: skip
        with pytest.raises(UsageError, match=r"Decision\.refine_keep"):
            Decision(2, keep=0.5, bits=4, **more)  # type: ignore[arg-type]


def test_labels_name_what_differs_from_the_default() -> None:
    assert Decision(2, 0.25, bits=4).label() == "split 2 keep 0.25 bits 4"
