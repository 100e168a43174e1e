"""The Ledger of virtual time says of every request what a Record says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.device.accounting import Costs, Trip
from splitpoint.device.effects import Answer
from splitpoint.device.session import Finished
from splitpoint.policies.decision import Decision
from splitpoint.policies.observation import Observation
from splitpoint.sim.ledger import Ledger
from splitpoint.sim.records import columns_of, record

SHARED = Decision(6)
NUMBERS = st.integers(0, 1000)
SECONDS = st.floats(0.0, 100.0)
UNKNOWN = SECONDS | st.just(math.nan)
DECISIONS = st.just(SHARED) | st.builds(
    Decision, st.integers(0, 6), st.floats(0.1, 1.0), NUMBERS, st.integers(1, 8)
)
TRIPS = st.builds(
    Trip, SECONDS, NUMBERS, NUMBERS, UNKNOWN, UNKNOWN, UNKNOWN,
    channel_uses=NUMBERS, votes=NUMBERS, asked=NUMBERS, quorum_macs=NUMBERS,
)  # fmt: skip


@st.composite
def finished(draw: st.DrawFn) -> Finished:
    flags = [draw(st.booleans()) for _ in range(4)]
    answer = Answer(
        draw(DECISIONS),
        draw(NUMBERS),
        draw(SECONDS),
        draw(NUMBERS),
        draw(NUMBERS),
        *flags[:3],
        draw(SECONDS),
        flags[3],
    )
    trip = draw(st.none() | TRIPS)
    # Nothing was on the air where nothing was sent.
    on_air_s = (0.0, 0.0) if trip is None else (draw(SECONDS), draw(SECONDS))
    seen = Observation(draw(UNKNOWN), draw(UNKNOWN), 1.0, 0.01, 0, 0.0, 1.0, 0.3, True)
    costs = Costs(draw(SECONDS), *on_air_s, draw(SECONDS))
    return Finished(draw(SECONDS), draw(SECONDS), answer, trip, costs, seen, draw(st.booleans()))


@settings(max_examples=60)
@given(st.lists(finished(), max_size=12), st.randoms(use_true_random=False))
def test_it_keeps_what_a_record_keeps_in_the_same_order(requests: list[Finished], shuffle: Any) -> None:
    numbered = [(place % 3, place // 3, 7 * place, request) for place, request in enumerate(requests)]
    shuffle.shuffle(numbered)
    ledger = Ledger()
    for row in numbered:
        ledger.add(*row)
    found, expected = ledger.columns(), columns_of(record(*row) for row in numbered)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values, err_msg=name)
