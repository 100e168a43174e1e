"""Decision, Observation and Outcome as the messages of PolicyService, and back.

What is read is checked as if an enemy had written it: every error is a DataError that begins with the field's path.
"""

from __future__ import annotations

import math
from dataclasses import fields

from ..errors import DataError, UsageError
from ..models.card import ModelCard
from ..protos import splitpoint_pb2 as pb
from .decision import Decision
from .observation import Observation
from .policy import Outcome

__all__ = [
    "decision_message",
    "observation_message",
    "outcome_message",
    "read_decision",
    "read_observation",
    "read_outcome",
]

_UNKNOWN = ("snr_db", "rate_bps", "rate_sigma_db", "round_trip_s", "server_load")
"""Estimates that are NaN until something is known."""

_ALWAYS = tuple(field.name for field in fields(Decision) if field.name not in ("bits", "symbols"))


def decision_message(decision: Decision) -> pb.Decision:
    """Symbols go without the width of a code, which says nothing then."""
    message = pb.Decision(**{name: getattr(decision, name) for name in _ALWAYS})
    if decision.symbols:
        message.symbols = decision.symbols
    else:
        message.bits = decision.bits
    return message


def read_decision(message: pb.Decision, card: ModelCard, path: str = "decision") -> Decision:
    """The Decision, checked to fit the network of this card. Raises DataError."""
    values = {name: getattr(message, name) for name in _ALWAYS}
    width = message.WhichOneof("width")
    if width is None:
        raise DataError(f"{path}.bits: or symbols must be given")
    values[width] = getattr(message, width)
    if width == "symbols" and not values["symbols"]:
        raise DataError(f"{path}.symbols: must be above 0, or bits be given")
    try:
        decision = Decision(**values)
        decision.check(card)
    except UsageError as error:
        name, problem = str(error).removeprefix("Decision.").split(" ", 1)
        raise DataError(f"{path}.{name}: {problem}") from None
    return decision


def observation_message(observation: Observation) -> pb.Observation:
    """What is not known, and the energy of a device on mains, is left out."""
    message = pb.Observation(
        device_queue=observation.device_queue,
        time_left_s=observation.time_left_s,
        link_up=observation.link_up,
    )
    for name in _UNKNOWN:
        value = getattr(observation, name)
        if not math.isnan(value):
            setattr(message, name, value)
    if observation.energy_j < math.inf:
        message.energy_j = observation.energy_j
    return message


def read_observation(message: pb.Observation, path: str = "observation") -> Observation:
    """The Observation. Raises DataError."""
    given = {field.name: value for field, value in message.ListFields()}
    for name in (*_UNKNOWN, "energy_j", "time_left_s"):
        lowest = -math.inf if name in ("snr_db", "energy_j", "time_left_s") else 0.0
        _check(given.get(name, 0.0), f"{path}.{name}", lowest)
    return Observation(
        **{name: given.get(name, math.nan) for name in _UNKNOWN},
        device_queue=message.device_queue,
        energy_j=given.get("energy_j", math.inf),
        time_left_s=message.time_left_s,
        link_up=message.link_up,
    )


def outcome_message(outcome: Outcome) -> pb.Outcome:
    """Every field as it is."""
    return pb.Outcome(**outcome._replace(decision=decision_message(outcome.decision))._asdict())  # type: ignore[arg-type]


def read_outcome(message: pb.Outcome, card: ModelCard, path: str = "outcome") -> Outcome:
    """The Outcome of a request to the network of this card. Raises DataError."""
    if not message.HasField("decision"):
        raise DataError(f"{path}.decision: is missing")
    decision = read_decision(message.decision, card, f"{path}.decision")
    if message.cut > card.depth:
        raise DataError(f"{path}.cut: must be at most the network's depth, {card.depth}, not {message.cut}")
    if not 0.0 <= message.margin <= 1.0:
        raise DataError(f"{path}.margin: must be in [0, 1], not {message.margin:g}")
    for name in ("latency_s", "energy_j", "airtime_s"):
        _check(getattr(message, name), f"{path}.{name}", 0.0)
    values = {name: getattr(message, name) for name in Outcome._fields if name != "decision"}
    return Outcome(decision, **values)


def _check(value: float, path: str, lowest: float) -> None:
    if not math.isfinite(value) or value < lowest:
        wanted = "finite" if lowest == -math.inf else f"finite and at least {lowest:g}"
        raise DataError(f"{path}: must be {wanted}, not {value:g}")
