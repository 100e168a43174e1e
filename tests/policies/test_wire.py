import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.errors import DataError
from splitpoint.models.card import read_card
from splitpoint.models.store import resolve
from splitpoint.policies.decision import Decision
from splitpoint.policies.observation import Observation
from splitpoint.policies.policy import Outcome
from splitpoint.policies.wire import (
    decision_message,
    observation_message,
    outcome_message,
    read_decision,
    read_observation,
    read_outcome,
)
from splitpoint.protos import splitpoint_pb2 as pb

CARD = read_card(resolve("clutter"))
DEPTH, DIM = CARD.depth, CARD.dim
number = st.floats(-1e6, 1e6)
positive = st.floats(0.0, 1e9)
estimate = st.one_of(st.just(math.nan), positive)
part = st.floats(0.0, 1.0, exclude_min=True)
decisions = st.builds(
    Decision,
    split=st.integers(0, DEPTH),
    keep=part,
    dims=st.integers(0, DIM),
    bits=st.integers(1, 7),
    exit_margin=st.floats(-2.0, 2.0),
    offload_slope=st.floats(-2.0, 2.0),
    refine_bits=st.sampled_from([0, 8]),
    refine_margin=st.floats(0.0, 2.0),
) | st.one_of(
    st.builds(Decision, split=st.integers(0, DEPTH), symbols=part, merge=part),
    st.builds(
        Decision, split=st.integers(0, DEPTH), keep=st.floats(0.01, 0.5), refine_keep=st.floats(0.6, 1.0)
    ),
)
observations = st.builds(
    Observation,
    snr_db=st.one_of(st.just(math.nan), number),
    rate_bps=estimate,
    rate_sigma_db=estimate,
    round_trip_s=estimate,
    device_queue=st.integers(0, 1000),
    server_load=estimate,
    energy_j=st.one_of(st.just(math.inf), number),
    time_left_s=number,
    link_up=st.booleans(),
)
outcomes = st.builds(
    Outcome,
    decision=decisions,
    cut=st.integers(0, DEPTH),
    offloaded=st.booleans(),
    degraded=st.booleans(),
    late=st.booleans(),
    margin=st.floats(0.0, 1.0),
    latency_s=positive,
    energy_j=positive,
    airtime_s=positive,
    uplink_bytes=st.integers(0, 2**40),
)


def carried(message):
    return type(message).FromString(message.SerializeToString())


@given(decisions)
def test_a_decision_comes_out_as_it_went_in(decision):
    assert read_decision(carried(decision_message(decision)), CARD) == decision


@given(observations)
def test_an_observation_comes_out_as_it_went_in(observation):
    found = read_observation(carried(observation_message(observation)))
    assert repr(found) == repr(observation)  # NaN is not equal to itself


@given(outcomes)
def test_an_outcome_comes_out_as_it_went_in(outcome):
    assert read_outcome(carried(outcome_message(outcome)), CARD) == outcome


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": DEPTH + 1}, "decision.split: must be at most"),
        ({"keep": math.nan}, "decision.keep: must be a finite number"),
        ({"keep": 0.0}, "decision.keep: must be in"),
        ({"dims": DIM + 1}, "decision.dims: must be at most"),
        ({"bits": 0}, "decision.bits: must be in 1..8"),
        ({"symbols": 0.0}, "decision.symbols: must be above 0"),
        ({"symbols": -1.0}, "decision.symbols: must be in"),
        ({"exit_margin": math.inf}, "decision.exit_margin: must be a finite number"),
        ({"refine_bits": 2**32 - 1}, "decision.refine_bits: must be 0 or in"),
        ({"merge": -1.0}, "decision.merge: must be in"),
    ],
)
def test_a_bad_decision_names_its_field(changes, said):
    message = decision_message(Decision(2))
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(DataError, match=said):
        read_decision(carried(message), CARD)


def test_a_decision_without_a_width_says_so():
    message = decision_message(Decision(2))
    message.ClearField("bits")
    with pytest.raises(DataError, match=r"decision\.bits: or symbols must be given"):
        read_decision(message, CARD)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["snr_db", "rate_bps", "rate_sigma_db", "round_trip_s", "server_load", "energy_j", "time_left_s"]
)
def test_an_observation_takes_finite_numbers_only(name, value):
    with pytest.raises(DataError, match=rf"^observation\.{name}: must be finite"):
        read_observation(carried(pb.Observation(**{name: value})))


@pytest.mark.parametrize("name", ["rate_bps", "rate_sigma_db", "round_trip_s", "server_load"])
def test_an_observation_takes_no_negative_estimates(name):
    with pytest.raises(DataError, match=rf"^observation\.{name}: must be finite and at least 0, not -1"):
        read_observation(carried(pb.Observation(**{name: -1.0})))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cut": DEPTH + 1}, r"outcome\.cut: must be at most"),
        ({"margin": 1.5}, r"outcome\.margin: must be in \[0, 1\]"),
        ({"margin": math.nan}, r"outcome\.margin: must be in \[0, 1\]"),
        ({"latency_s": math.nan}, r"outcome\.latency_s: must be finite"),
        ({"energy_j": -1.0}, r"outcome\.energy_j: must be finite and at least 0"),
        ({"airtime_s": math.inf}, r"outcome\.airtime_s: must be finite"),
    ],
)
def test_a_bad_outcome_names_its_field(changes, said):
    good = Outcome(Decision(2), 2, True, False, False, 0.5, 0.1, 0.2, 0.01, 300)
    message = outcome_message(good)
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(DataError, match=said):
        read_outcome(carried(message), CARD)


def test_an_outcome_without_its_decision_says_so():
    with pytest.raises(DataError, match=r"outcome\.decision: is missing"):
        read_outcome(pb.Outcome(cut=1), CARD)
